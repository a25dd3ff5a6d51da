"""What the user sees of a run: terminal and HTML."""

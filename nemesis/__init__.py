"""What goes wrong, when, and the proof that it did."""

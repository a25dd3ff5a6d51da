"""What runs inside the guest. Standard library only."""

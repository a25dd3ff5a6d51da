"""Where tests run: the seams, and their implementations."""

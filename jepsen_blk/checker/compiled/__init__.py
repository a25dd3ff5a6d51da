"""The checks as machine code, where numba is installed and the history is long enough to repay it."""

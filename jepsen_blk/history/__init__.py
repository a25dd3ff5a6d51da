"""What happened: operations on disk and in memory, and the events beside them."""

"""The policy target: an nbdkit plugin. Standard library only, since nbdkit brings the system's Python."""

"""Many tests at once: which recovery policy is safe on which storage, and what it costs."""

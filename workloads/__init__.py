"""What the guest does; `agent` is what runs inside it."""

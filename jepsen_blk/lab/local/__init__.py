"""The local lab: QEMU guests in the lab's own namespaces on one machine, without root."""

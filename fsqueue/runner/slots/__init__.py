"""The slots in which a worker runs bodies: threads of its process, or separate processes."""

"""Slots, in which a worker runs bodies: threads of its process, or processes of their own."""

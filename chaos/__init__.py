"""Attacks the queue for a while and then accounts for every call; see README.md."""

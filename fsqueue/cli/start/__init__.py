"""Commands that start work."""

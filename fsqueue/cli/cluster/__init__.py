"""The commands that run workers as jobs of a batch system."""

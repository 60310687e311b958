"""Commands that start work, and workers: on this machine or as jobs of a batch system."""

"""Low-level access to files, clocks and processes. Knows nothing about calls."""

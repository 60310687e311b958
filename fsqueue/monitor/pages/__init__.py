"""The facts that each page of the monitor shows."""

"""Calls on their way out: arguments, options and batches become files that are published."""

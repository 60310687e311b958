"""Integrations: fsqueue behind the interfaces of other libraries. None is imported by default."""

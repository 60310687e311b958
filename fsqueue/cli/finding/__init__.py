"""Finds the application and the spool that a command works on."""

"""Mechanisms of the spool beyond publishing and claiming calls, one in each module."""

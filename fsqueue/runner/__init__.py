"""Runs what is pending: the claim loop, the pools of slots, upkeep and signals."""

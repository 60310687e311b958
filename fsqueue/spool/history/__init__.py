"""The journal of finished attempts, and statistics computed from it."""

"""The journal of finished attempts, and statistics made of it."""

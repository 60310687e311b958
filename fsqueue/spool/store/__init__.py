"""The protocol: every step that publishes, moves or ends a call."""

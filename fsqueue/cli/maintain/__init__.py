"""Commands that check and maintain a spool and its settings."""

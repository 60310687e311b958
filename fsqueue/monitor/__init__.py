"""The web page of a spool, and the charts that it shares with the report."""

"""The batch jobs that run workers, as every host of the spool sees them."""

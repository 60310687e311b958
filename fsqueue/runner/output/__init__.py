"""The output and the progress of bodies, on their way into the spool."""

"""Workers as batch jobs: profiles, scripts, the batch systems' commands, fleets and autoscaling."""

"""What surrounds the process: its working directory, configuration files, standard streams."""

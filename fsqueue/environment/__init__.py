"""The environment of the process: working directory, configuration files, standard streams."""

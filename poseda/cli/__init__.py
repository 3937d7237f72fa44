"""The command line: typed configuration, help, and errors in one line. Hydra lives here and nowhere else."""

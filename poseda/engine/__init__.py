"""The training loop and what surrounds it: checkpoints, resume, records, progress, devices."""

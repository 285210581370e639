"""What follows a training: data lists, progress, curves, averaging, checkpoints, the report."""

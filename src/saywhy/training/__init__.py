"""Training: the loop, checkpoints and logs that the recipes of the shipped models use."""

"""Evaluation, training loop, checkpoints, files, pictures and command-line helpers shared by every method."""

"""The folder of a run: checkpoints, stages, log, lock."""

"""From files and pictures to the batches that a model reads: rows, tasks, collation, windows."""

"""The picture world: a procedural stand-in for the study's targets and held-out benchmarks."""

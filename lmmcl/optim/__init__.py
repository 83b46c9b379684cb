"""Optimizers: what trains is held and updated, in 4, 2 or 1 bytes."""

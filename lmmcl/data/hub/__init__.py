"""Rows from the hub, or from a copy of it."""

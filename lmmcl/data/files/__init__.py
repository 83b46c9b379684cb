"""Rows from files: JSON lines, tables, tar shards, folders of pictures."""

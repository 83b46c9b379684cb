"""Tests of `lmmcl.data`."""

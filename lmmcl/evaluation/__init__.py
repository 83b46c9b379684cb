"""Measuring: greedy answers, their scores, the matrix, and what its numbers mean."""

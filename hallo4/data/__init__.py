"""Clips for training: rendered once, encoded once, read from disk."""

"""Skeleton sequences: reading, drawing, timing, fitting to a portrait, and idle motion out of nothing."""

from hallo4.motion.draw import draw_skeleton

__all__ = ["draw_skeleton"]

"""Inference: `run`, the only loop, and the methods built on it."""

"""Models of sequences. A new one is one file here, one import below, and one row in ``tests/cases.py``."""

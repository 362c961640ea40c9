"""Damaged and hostile files and requests without end, by a seed: python -m tests.fuzz --help."""

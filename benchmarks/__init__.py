"""Benchmarks: each script times or scores both sides in one run and prints versions and the machine."""

"""Benchmarks: this program and what it is compared with, measured side by side."""

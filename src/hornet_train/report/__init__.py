"""Figures and tables: the curves of a run, contact sheets of images, benchmarks, models."""

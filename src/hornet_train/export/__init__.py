"""Trained models for other programs: each export is written, run, and compared with the model."""

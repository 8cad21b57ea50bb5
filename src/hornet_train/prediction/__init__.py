"""Answers for pictures: which ones are meant, what is written of each, and the work between."""

"""Operators with passes of their own where torch's are slow on a processor (CPU)."""

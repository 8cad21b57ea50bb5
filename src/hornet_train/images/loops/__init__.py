"""Loops over pixels that neither numpy, torch nor Pillow has in one pass; numba compiles them."""

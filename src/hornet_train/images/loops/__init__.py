"""Loops over pixels, compiled by numba: operations that numpy, torch and Pillow cannot do in one pass."""

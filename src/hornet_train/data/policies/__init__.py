"""Augmentation policies on uint8 tensors."""

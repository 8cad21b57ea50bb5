"""The config of segmentation joined to its components."""

"""The config of detection joined to its components."""

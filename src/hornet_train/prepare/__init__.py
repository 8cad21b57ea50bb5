"""Data sets before they are trained on: checked, and packed into shards."""

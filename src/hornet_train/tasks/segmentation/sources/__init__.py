"""Where pictures and their masks lie."""

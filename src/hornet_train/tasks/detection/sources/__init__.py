"""Where pictures and the boxes and masks of their objects lie."""

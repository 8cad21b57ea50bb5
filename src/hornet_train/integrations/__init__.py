"""gnConv in networks of others."""

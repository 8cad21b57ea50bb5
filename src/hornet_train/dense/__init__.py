"""Modules that stand on a backbone: necks and heads for dense prediction. None yet."""

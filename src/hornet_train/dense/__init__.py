"""Modules that stand on a backbone, for dense prediction: necks and heads. The layer is declared; none yet."""

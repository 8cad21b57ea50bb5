"""Where the config of classification is joined to its components; those take plain values."""

"""CPU operators of our own, where torch's are slow."""

LANES = 16  # values that are worked on together: a cache line of float32
EPS = 1e-6  # of layer norm: what all norms of HorNet add to the variance

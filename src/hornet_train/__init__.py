"""hornet-train: train, evaluate and deploy HorNet."""

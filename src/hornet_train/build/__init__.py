"""From a config to the components of a run: the one package that knows both.

data.py        data and augment groups -> sources, transforms
weights.py     checkpoints of any kind -> a model's weights
run.py         a training config -> a Trainer
facts.py       what the start panel says of it
evaluation.py  an evaluation config -> model, weights, data
"""

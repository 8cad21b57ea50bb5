"""From a config to the components of a run: the one package that knows both.

process.py     the dist group -> this process's settings
folder.py      the run folder: whose it is, what is written into it at a start
data.py        the data and augment groups -> sources, transforms, the task
weights.py     checkpoints of any kind -> a model's weights
run.py         a training config -> a Trainer that stands where the run stands
facts.py       what the start panel says of it
evaluation.py  an evaluation config -> model, weights, data
"""

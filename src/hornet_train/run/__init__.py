"""A run from its config, whatever its task: of tasks it sees only the kit.

training.py        a training from its composed config to its result, step by step
build.py           config -> a Trainer that stands where the run stands
settings.py        durations and options -> the loop's settings and the schedule
loaders.py         stored samples -> plans and loaders
state.py           model, optimizer, averaged weights (sharded_models.py: spread over the ranks)
resume.py          going on from a checkpoint; weights.py: weights from any checkpoint
folder.py          the run folder; sinks.py: where events go; facts.py: what the start panel says
evaluation.py      an evaluation from its config to its result; known.py: what a checkpoint says of itself
repeat.py          from=, a run beside the one that it repeats; replay.py: replay=, a step made again
process.py         process-wide settings, and joining the other processes
"""

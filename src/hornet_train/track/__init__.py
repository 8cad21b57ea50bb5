"""What a run records: sums of metrics, events, console output, its environment.

Nothing here knows the training loop, a model or a config. Events and plain values come in, files and lines of
text go out.
"""

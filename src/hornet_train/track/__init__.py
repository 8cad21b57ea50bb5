"""What a run leaves behind while it goes: sums of metrics, lines of events, a console, its environment.

Nothing here knows the loop, a model or a config: events and plain values come in, files and lines go out.
"""

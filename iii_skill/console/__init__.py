"""The console: a page in the browser for state, changes, functions, triggers, workers and queues."""

PORT = 3113
"""Where it is unless something else is said; whoever asks for that alone imports no page."""

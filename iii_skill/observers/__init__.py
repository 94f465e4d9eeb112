"""Observers: a source function that was called calls a target function."""

"""Observers: when a source function was called, a target function is called."""

"""Attach: the client side of the worker protocol; our state served inside a running engine."""

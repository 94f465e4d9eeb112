"""Introspection: what workers can ask the engine about itself, and hear of it."""

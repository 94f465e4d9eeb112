"""What a host counts of itself, and how that is written down for those who watch it."""

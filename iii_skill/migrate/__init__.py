"""Move state between the real engine's stores and our adapters, or from one adapter to another."""

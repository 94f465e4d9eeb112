"""The adapter `file`: SQLite in one directory, durable at every acknowledged write."""

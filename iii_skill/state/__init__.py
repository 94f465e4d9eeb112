"""MEANING: what the state functions do, without sockets and without a store."""

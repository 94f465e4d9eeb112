"""The adapter `redis`: any Redis or Valkey, shared by many hosts."""

"""What the engine's deserializer would say about a payload that does not fit."""

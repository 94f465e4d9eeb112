"""JSON Schema: which values fit a schema, judged in a process of its own and in bounded time."""

from iii_skill.json_schema.checker import BadSchema, CheckFailed, SchemaChecker

__all__ = ["BadSchema", "CheckFailed", "SchemaChecker"]

"""The part of JSON Schema that configuration entries use, with the error texts of the engine's validator.

Keywords are visited in byte order, properties of an instance too. A schema with a keyword that asserts
something and is not known here is refused when it is registered: a check is never silently left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from iii_skill.configuration.schema_document import check_schema, resolve
from iii_skill.configuration.schema_keywords import CHECKS, text


class Schema:
    """A compiled schema."""

    def __init__(self, document: Any) -> None:
        self.document = document
        check_schema(document)

    def errors(self, instance: Any) -> list[str]:
        """Everything that is wrong with the instance, in the engine's words; empty when it is valid."""
        try:
            return list(self.visit(self.document, instance))
        except RecursionError:
            return ["the value is nested too deep for its schema"]

    def visit(self, schema: Any, instance: Any) -> Iterator[str]:
        """The errors of the instance against a part of the schema."""
        if schema is True:
            return
        if schema is False:
            yield f"False schema does not allow {text(instance)}"
            return
        if "$ref" in schema:
            yield from self.visit(resolve(self.document, schema["$ref"]), instance)
            return
        if isinstance(instance, dict):
            yield from self._object(schema, instance)
        for keyword in sorted(schema):
            check = CHECKS.get(keyword)
            if check is not None:
                yield from check(self, schema[keyword], instance)

    def _object(self, schema: Mapping[str, Any], instance: Mapping[str, Any]) -> Iterator[str]:
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        unexpected = []
        for name in sorted(instance):
            if name in known:
                yield from self.visit(known[name], instance[name])
            elif others is False:
                unexpected.append(f"'{name}'")
            else:
                yield from self.visit(others, instance[name])
        if unexpected:
            verb = "was" if len(unexpected) == 1 else "were"
            names = ", ".join(unexpected)
            yield f"Additional properties are not allowed ({names} {verb} unexpected)"

    def valid(self, schema: Any, instance: Any) -> bool:
        """True when the instance fits the part of the schema."""
        return next(self.visit(schema, instance), None) is None

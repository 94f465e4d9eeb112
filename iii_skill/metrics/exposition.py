"""Exposition: families of samples as OpenMetrics text, version 1.0.0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from iii_skill.figures import Family, Histogram

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def exposition(families: Iterable[Family]) -> bytes:
    """The text; a family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        for labels, value in family.samples:
            if isinstance(value, Histogram):
                lines += _histogram(name, labels, value)
            else:
                lines.append(f"{name}{_labels(labels)} {value!r}")
    lines.append("# EOF\n")
    return "\n".join(lines).encode("utf-8", "replace")


def _histogram(name: str, labels: Mapping[str, str], found: Histogram) -> Iterable[str]:
    total = 0
    for bound, count in zip((*found.bounds, "+Inf"), found.counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels({**labels, 'le': str(bound)})} {total}"
    yield f"{name}_count{_labels(labels)} {total}"
    yield f"{name}_sum{_labels(labels)} {found.sum!r}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

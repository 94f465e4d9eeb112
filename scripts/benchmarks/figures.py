"""The report: figures with their bounds, medians over rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Settings:
    """How long and how often: rounds per ratio, seconds per round."""

    rounds: int = 3
    seconds: float = 3.0
    quick: bool = False


@dataclass(frozen=True)
class Figure:
    """One measured figure. `bound` is what it is meant to keep (`at_most`: not more, else not less)."""

    name: str
    values: list[float]
    unit: str
    bound: float | None = None
    at_most: bool = True
    digits: int = 2

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def kept(self) -> bool | None:
        """True when the median keeps the bound; None without one."""
        if self.bound is None:
            return None
        return self.median <= self.bound if self.at_most else self.median >= self.bound


@dataclass
class Report:
    """All figures of one run."""

    machine: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, values: list[float] | float, unit: str, **options: Any) -> None:
        """Note a figure; several values are rounds."""
        rounds = values if isinstance(values, list) else [values]
        self.figures.append(Figure(name, rounds, unit, **options))

    def as_json(self) -> dict[str, Any]:
        """Name to median, rounds, unit and bound."""
        return {
            "machine": self.machine,
            "figures": {
                f.name: {
                    "median": round(f.median, 4),
                    "rounds": [round(value, 4) for value in f.values],
                    "unit": f.unit,
                    "bound": f.bound,
                    "bound_is": None if f.bound is None else ("at most" if f.at_most else "at least"),
                    "kept": f.kept,
                }
                for f in self.figures
            },
        }

    def as_table(self) -> str:
        """A Markdown table for people."""
        rows = [f"Measured on {self.machine}; medians.", "", "| figure | measured | bound |", "|---|---|---|"]
        for f in self.figures:
            bound = ""
            if f.bound is not None:
                sign = "≤" if f.at_most else "≥"
                bound = f"{sign} {f.bound:g}{'' if f.kept else ' (missed)'}"
            rows.append(f"| {f.name} | {f.median:,.{f.digits}f} {f.unit} | {bound} |")
        return "\n".join(rows)

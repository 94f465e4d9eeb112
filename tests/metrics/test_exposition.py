"""The text of the figures is read back by the parser of Prometheus, whatever the names in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from iii_skill.figures import Family
from iii_skill.metrics.exposition import exposition
from iii_skill.metrics.process import process_families


def read(*families: Family) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples by name, as a scraper has them."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposition(families).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_counters_end_with_total_and_gauges_do_not() -> None:
    families = (
        Family("calls", "counter", "Calls.", [({"outcome": "ok"}, 3), ({"outcome": "error"}, 1)]),
        Family("lag_seconds", "gauge", "Lag.", [({}, 0.25)]),
    )
    assert read(*families) == {
        "calls_total": [({"outcome": "ok"}, 3), ({"outcome": "error"}, 1)],
        "lag_seconds": [({}, 0.25)],
    }


def test_a_family_without_samples_is_no_line() -> None:
    assert exposition([Family("nothing", "gauge", "Nothing.", [])]) == b"# EOF\n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_label_comes_back(text: str) -> None:
    assert read(Family("jobs", "gauge", text, [({"queue": text}, 1)]))["jobs"] == [({"queue": text}, 1)]


@pytest.mark.parametrize("value", [0, 1, -1, 1e-7, 1e300, 2**53 - 1])
def test_every_number_comes_back(value: float) -> None:
    assert read(Family("number", "gauge", "A number.", [({}, value)]))["number"] == [({}, value)]


def test_the_process_is_as_large_as_the_system_says() -> None:
    found = read(*process_families())
    assert found["process_cpu_seconds_total"][0][1] > 0
    assert found["process_resident_memory_bytes"][0][1] > 1_000_000
    assert found["process_open_fds"][0][1] >= 3

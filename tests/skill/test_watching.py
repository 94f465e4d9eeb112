"""The commands of the page with which a host is watched say what the page says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.host import free_port, running_host
from support.markdown import blocks
from support.tree import ROOT

PAGE = ROOT / "references" / "running.md"


def test_a_host_is_watched_with_curl(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(PAGE) if block.directive == "watch"]
    script = "set -e\n" + block.text.replace("9464", str(free_port()))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert '{"ok":true}{"ready":true,' in run.stdout
    assert 'iii_invocations_total{of="host"} ' in run.stdout
    assert all(json.loads(line)["event"] for line in (tmp_path / "host.log").read_text().splitlines())


def test_the_page_names_every_outcome_and_every_metric(tmp_path: Path) -> None:
    text = PAGE.read_text()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with running_host(tmp_path, "--adapter", "memory", "--metrics-port", "0", env=env) as host:
        with urllib.request.urlopen(f"{host.ready['metrics']}/metrics", timeout=20) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        assert host.sigterm() == 0
    names = {family.name for family in families if not family.name.startswith("process_")}
    outcomes = {s.labels["kind"] for f in families if f.name == "iii_invocation_errors" for s in f.samples}
    assert {name for name in names | outcomes if name not in text} == set()
    assert len(names) >= 10

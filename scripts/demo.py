"""The main job, shown: scaffold a worker, run it on the durable host, kill the host, lose nothing."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "demo"
CLIENTS = 8
WRITES_BEFORE_THE_KILL = 400


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def tell(text: str) -> None:
    print(f"   {text}", flush=True)


class Processes:
    """Everything the demo starts; ended whatever happens."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, **options)
        self.running.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def request(base: str, method: str, path: str, body: Any = None, *, show: bool = True) -> tuple[int, Any]:
    """One HTTP request; status 0 when there was no answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"content-type": "application/json"}
    call = urllib.request.Request(base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(call, timeout=10) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    answered = json.loads(text) if text else None
    if show:
        sent = "" if body is None else " " + json.dumps(body)
        tell(f"{method} {path}{sent}")
        tell(f"  -> {status} {json.dumps(answered)[:200]}")
    return status, answered


def start_host(processes: Processes, data: Path, ws_port: int, http_port: int) -> tuple[Any, dict[str, Any]]:
    command = [sys.executable, "-m", "iii_skill", "serve", "--adapter", "file", "--data-dir", str(data)]
    command += ["--port", str(ws_port), "--http-port", str(http_port), "--ready-json", "--log-level", "error"]
    process = processes.start(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the host did not start")
    return process, json.loads(line)


def wait_for_worker(base: str) -> None:
    deadline = time.monotonic() + 60
    while request(base, "GET", "/products", show=False)[0] != 200:
        if time.monotonic() > deadline:
            raise SystemExit("the worker did not register its routes within 60 s")
        time.sleep(0.05)


def worker_environment(project: Path) -> Path:
    """A virtual environment with what the generated project asks for; kept between runs."""
    home = CACHE / "worker"
    wanted = (project / "pyproject.toml").read_text()
    stamp = home / "pyproject.toml"
    if not stamp.exists() or stamp.read_text() != wanted:
        tell("installing its dependencies (the real iii SDK) from the package index; kept for the next run")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(project)], check=True)
        stamp.write_text(wanted)
    return home / "bin" / "python"


def tour(base: str) -> None:
    status, chair = request(
        base, "POST", "/products", {"name": "Oak chair", "price": 129.5, "category": "chairs", "stock": 10}
    )
    assert status == 201, status
    where = f"/products/{chair['id']}"
    expected = [
        (request(base, "GET", where), 200),
        (request(base, "PUT", f"{where}/price", {"newPrice": 99}), 200),
        (request(base, "POST", f"{where}/stock", {"adjustment": -3}), 200),
        (request(base, "POST", f"{where}/stock", {"adjustment": -100}), 409),
        (request(base, "POST", "/products", {"name": "", "price": -1}), 400),
        (request(base, "GET", "/products/prod-nothing"), 404),
        (request(base, "POST", "/transcripts/call-1/chunks", {"author": "Ada", "chunk": "Hello"}), 201),
        (request(base, "GET", "/products"), 200),
        (request(base, "DELETE", where), 200),
        (request(base, "GET", where), 404),
    ]
    for (status, _), wanted in expected:
        assert status == wanted, f"answered {status}, expected {wanted}"


def write_until_the_host_is_gone(base: str, client: int, acked: dict[str, int]) -> None:
    for number in range(1_000_000):
        body = {
            "name": f"client {client} item {number}",
            "price": number,
            "category": "demo",
            "stock": number,
        }
        status, record = request(base, "POST", "/products", body, show=False)
        if status == 201:
            acked[record["id"]] = number
        elif status == 0:
            return


def main() -> None:
    began = time.perf_counter()
    processes = Processes()
    work = Path(tempfile.mkdtemp(prefix="iii-skill-demo-"))
    try:
        step("1. Scaffold a worker: iii-skill scaffold python my-worker --defaults")
        project = work / "my-worker"
        scaffold = [sys.executable, "-m", "iii_skill", "scaffold", "python", str(project), "--defaults"]
        subprocess.run(scaffold, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(project.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                tell(f"{path.relative_to(work)}  {path.stat().st_size} bytes")
        python = worker_environment(project)

        step("2. Start the host on the durable file store")
        host, ready = start_host(processes, work / "data", 0, 0)
        tell(json.dumps(ready))

        step("3. Start the worker with the real SDK: III_URL=… python my_worker.py")
        environment = {**os.environ, "III_URL": ready["ws"], "OTEL_ENABLED": "false"}
        worker = processes.start(
            [str(python), str(project / "my_worker.py")],
            env=environment,
            stderr=(work / "worker.log").open("w"),
        )
        wait_for_worker(ready["http"])
        tell("its routes answer")

        step("4. Use it over HTTP")
        tour(ready["http"])

        step(f"5. SIGKILL the host while {CLIENTS} clients write")
        acked: dict[str, int] = {}
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            jobs = [
                pool.submit(write_until_the_host_is_gone, ready["http"], n, acked) for n in range(CLIENTS)
            ]
            while len(acked) < WRITES_BEFORE_THE_KILL and not any(job.done() for job in jobs):
                time.sleep(0.005)
            host.send_signal(signal.SIGKILL)
            host.wait()
            for job in jobs:
                job.result()
        tell(f"killed (exit {host.returncode}); {len(acked)} writes had been acknowledged")

        step("6. Start the host again; the worker reconnects by itself")
        ws_port, http_port = (int(ready[name].rsplit(":", 1)[1]) for name in ("ws", "http"))
        host, ready = start_host(processes, work / "data", ws_port, http_port)
        wait_for_worker(ready["http"])
        assert worker.poll() is None, "the worker ended"
        _, listing = request(ready["http"], "GET", "/products", show=False)
        found = {record["id"]: record["stock"] for record in listing["products"]}
        lost = [key for key, number in acked.items() if found.get(key) != number]
        tell(f"{len(found)} products are stored; of {len(acked)} acknowledged writes {len(lost)} are lost")
        assert not lost, lost[:5]

        step("7. Stop: SIGTERM to worker, then to host")
        codes = {}
        for name, process in (("worker", worker), ("host", host)):
            process.terminate()
            codes[name] = process.wait(20)
        tell(f"exit codes: {codes}")
        assert set(codes.values()) == {0}, codes
        print(f"\nEvery acknowledged write survived. {time.perf_counter() - began:.1f} s.")
    except BaseException:
        log = work / "worker.log"
        if log.exists():
            sys.stderr.write(log.read_text()[-2000:])
        raise
    finally:
        processes.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

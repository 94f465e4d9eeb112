"""Process: memory, processor time and open files of this process, under the names that Prometheus knows."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from iii_skill.figures import Family

STARTED = time.time()
_PAGE = resource.getpagesize()


def process_families() -> list[Family]:
    """What the system says now; what it does not say is left out."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    families = [
        Family("process_cpu_seconds", "counter", "Processor time.", [({}, usage.ru_utime + usage.ru_stime)]),
        Family("process_start_time_seconds", "gauge", "Start, in seconds since 1970.", [({}, STARTED)]),
    ]
    try:
        size, resident = Path("/proc/self/statm").read_text().split()[:2]
        files = len(os.listdir("/proc/self/fd"))
    except OSError:
        # No Linux.
        return families
    return [
        *families,
        Family("process_resident_memory_bytes", "gauge", "Memory in use.", [({}, int(resident) * _PAGE)]),
        Family("process_virtual_memory_bytes", "gauge", "Address space.", [({}, int(size) * _PAGE)]),
        Family("process_open_fds", "gauge", "Open files.", [({}, files)]),
    ]

"""Run by the Python of an SDK: what its own filters say about each line of the standard input."""

from __future__ import annotations

import json
import sys

from iii.filter import FilterError, compile_filter  # type: ignore[import-not-found]

for line in sys.stdin:
    case = json.loads(line)
    try:
        compiled = compile_filter(case["filter"], trusted=case.get("trusted", False))
    except FilterError as error:
        print(json.dumps({"refused": str(error)}))
        continue
    matches = [compiled.matches(document) for document in case["documents"]]
    print(json.dumps({"matches": matches, "roots": sorted(compiled.roots)}))

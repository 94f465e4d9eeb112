"""CellarAdapter: the example of the page about shared adapters, importable here and in child processes."""

from __future__ import annotations

import atexit
import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.markdown import blocks
from support.tree import ROOT

PAGE = ROOT / "references" / "shared-adapters.md"


def _written() -> Path:
    place = Path(tempfile.mkdtemp(prefix="iii-cellar-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for block in blocks(PAGE):
        if block.directive.startswith("iii_state_cellar/"):
            file = place / block.directive
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)
    return place


sys.path.insert(0, str(_written()))
module: Any = importlib.import_module("iii_state_cellar.adapter")
CellarAdapter: Any = module.CellarAdapter
CellarConfig: Any = module.CellarConfig

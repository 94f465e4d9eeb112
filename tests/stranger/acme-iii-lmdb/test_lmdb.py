"""The adapter `lmdb` keeps the contract of iii-skill."""

from pathlib import Path

from acme_iii_lmdb import LmdbAdapter

from iii_skill.testing import AdapterContract


class TestLmdbAdapter(AdapterContract):
    """Every check that applies to what LmdbAdapter declares."""

    adapter = LmdbAdapter

    def config(self, tmp_path: Path) -> dict[str, object]:
        return {"data_dir": tmp_path / "data", "map_size": 1024 * 1024}

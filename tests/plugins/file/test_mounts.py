"""The file system of a path is the one of the deepest, latest mount above it."""

from __future__ import annotations

from pathlib import Path

import pytest
from iii_state_file.mounts import network_filesystem

MOUNTINFO = r"""
21 26 0:20 / /proc rw,nosuid shared:14 - proc proc rw
26 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 26 0:35 / /home rw,relatime shared:20 - nfs4 server:/home rw,vers=4.2
41 40 254:2 / /home/local rw,relatime shared:21 - xfs /dev/vdb1 rw
42 26 0:36 / /mnt/with\040space rw,relatime - cifs //server/share rw
43 26 0:37 / /mnt/ssh rw - fuse.sshfs user@host: rw
44 26 0:38 / /mnt/fuse rw - fuse.mergerfs local rw
45 26 0:39 / /twice rw - nfs server:/old rw
46 26 254:3 / /twice rw - btrfs /dev/vdc rw
47 26 0:40 / /vm rw - 9p host rw,trans=virtio
48 26 0:41 / /shared rw master:5 propagate_from:2 - virtiofs host rw
49 26 0:42 / /mem rw - tmpfs tmpfs rw
50 26 0:43 / /layers rw - overlay overlay rw
51 26 0:44 / /cluster rw - ceph 10.0.0.1:/ rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/state", None),
        ("/home/ann/.iii/state", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/ann", None),
        ("/home/local/ann", None),
        ("/mnt/with space/state", "cifs"),
        ("/mnt/ssh/a/b", "fuse.sshfs"),
        ("/mnt/fuse/a", None),
        ("/twice/state", None),
        ("/vm/state", "9p"),
        ("/shared/state", "virtiofs"),
        ("/mem/state", None),
        ("/layers/state", None),
        ("/cluster/state", "ceph"),
    ],
)
def test_network_file_systems_are_found(path: str, kind: str | None) -> None:
    assert network_filesystem(Path(path), MOUNTINFO) == kind


def test_a_path_without_any_mount_counts_as_local() -> None:
    assert network_filesystem(Path("/srv"), "") is None

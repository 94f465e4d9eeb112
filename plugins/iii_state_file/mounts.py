"""Which file system holds a path, and whether that is a network one, from the text of mountinfo."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = re.compile(
    r"9p|acfs|afs|afpfs|beegfs|ceph|cifs|coda|davfs|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|panfs|prl_fs|"
    r"pvfs2|smb[23]?|smbfs|vboxsf|virtiofs|webdav|"
    r"fuse\.(ceph|ceph-fuse|cephfs|davfs2?|gcsfuse|glusterfs|goofys|juicefs|mfs|moosefs|rclone|s3fs|smbnetfs|sshfs)"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def network_filesystem(path: Path, mountinfo: str) -> str | None:
    """The type of the network file system that holds the absolute `path`, or None when it is a local one."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # A later mount on the same point hides the earlier one, so equal depth wins.
        if len(point.parts) >= best and path.is_relative_to(point):
            best, kind = len(point.parts), after.split(" ", 1)[0]
    return kind if _NETWORK.fullmatch(kind) else None

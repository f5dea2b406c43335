"""Empty disk images: QEMU keeps a guest's snapshots in a disk, and a guest that boots from an initramfs has none.

The layout is that of QEMU's docs/interop/qcow2.txt, version 2: integers are big-endian, clusters 64 KiB.
"""

from __future__ import annotations

import struct
from pathlib import Path

_CLUSTER = 1 << 16
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")


def empty(path: Path, size: int = 1 << 20) -> Path:
    """Write an image in which nothing is allocated but its own tables.

    Args:
        path: File to write.
        size: Bytes of the disk, at most 512 MiB: what one cluster of each table describes.

    Returns:
        The path.
    """
    refcounts, block, table = _CLUSTER, 2 * _CLUSTER, 3 * _CLUSTER  # after the header, a cluster each
    image = bytearray(4 * _CLUSTER)
    # magic, version, backing file (offset, length), bits of a cluster, size, encryption, entries and place of the
    # table of clusters, place and clusters of the table of references, snapshots (number, offset)
    _HEADER.pack_into(image, 0, b"QFI\xfb", 2, 0, 0, 16, size, 0, 1, table, refcounts, 1, 0, 0)
    struct.pack_into(">Q", image, refcounts, block)
    struct.pack_into(">4H", image, block, 1, 1, 1, 1)
    path.write_bytes(image)
    return path

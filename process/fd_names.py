"""What descriptors are called: paths made absolute, sockets with their addresses, and what has no path.

Texts are escaped guest bytes. A path is as the program gave it, made absolute with the folder that it counts from: `.`
and doubled slashes go, `..` stays, since what is before it may be a link.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address
from typing import Final

import numpy as np
import numpy.typing as npt

from process.fd_records import Join
from process.kernels_texts import look_at_paths, take_texts
from process.strings import escape
from process.text_array import TextArray

Mask = npt.NDArray[np.bool_]

PATH_MAX: Final = 4096
"""A longer path is none (include/uapi/linux/limits.h)."""

_FAMILIES: Final = {
    0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 3: "AF_AX25", 4: "AF_IPX", 10: "AF_INET6", 15: "AF_KEY",
    16: "AF_NETLINK", 17: "AF_PACKET", 29: "AF_CAN", 30: "AF_TIPC", 31: "AF_BLUETOOTH", 38: "AF_ALG", 40: "AF_VSOCK",
    41: "AF_KCM", 42: "AF_QIPCRTR", 44: "AF_XDP",
}  # fmt: skip
"""include/linux/socket.h (Linux 6.1); the same on every architecture."""

_TYPES: Final = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP",
                 10: "SOCK_PACKET"}  # fmt: skip
_MIPS_TYPES: Final = {**_TYPES, 1: "SOCK_DGRAM", 2: "SOCK_STREAM"}
"""arch/mips/include/asm/socket.h (Linux 6.1)."""
_TYPE_MASK: Final = 0xF

_UNTIDY: Final = re.compile(r"/(?:/|\.{1,2}(?:/|\Z)|\Z)")
"""What a path has that is not as the kernel would write it."""
_MAGIC: Final = re.compile(
    r"/(?:proc/(?:[^/]+/(?:task/[^/]+/)?(?:fd|exe|cwd|root|map_files)(?:/|$))|dev/(?:fd|stdin|stdout|stderr)(?:/|$))"
)
"""Paths that lead to another process's files: their text says nothing of what is behind them (fs/proc/base.c)."""


def socket_text(family: int, kind: int, protocol: int, abi: str, call: str = "socket") -> str:
    """`socket(AF_INET, SOCK_STREAM)`, with a protocol that is not 0."""
    types = _MIPS_TYPES if abi.startswith("mips") else _TYPES
    shown = [_FAMILIES.get(family, str(family)), types.get(kind & _TYPE_MASK, str(kind & _TYPE_MASK))]
    return f"{call}({', '.join(shown + ([str(protocol)] if protocol else []))})"


def address_text(data: bytes, big_endian: bool) -> str | None:
    """A captured `struct sockaddr` as text: `10.0.2.2:80`, `[::1]:80`, `/run/log`, `@abstract`.

    Args:
        data: Its bytes, as far as they were captured.
        big_endian: The guest's byte order; ports and addresses are in that of the network.

    Returns:
        None if it is too short; empty for AF_UNSPEC and for a socket without a name.
    """
    if len(data) < 2:
        return None
    family = int.from_bytes(data[:2], "big" if big_endian else "little")
    if family == 0:
        return ""
    if family == 1:
        return _unix(data[2:])
    if family == 2:
        return f"{socket.inet_ntoa(data[4:8])}:{int.from_bytes(data[2:4], 'big')}" if len(data) >= 8 else None
    if family == 10:
        return f"[{IPv6Address(data[8:24])}]:{int.from_bytes(data[2:4], 'big')}" if len(data) >= 24 else None
    if family == 16 and len(data) >= 12:
        return f"netlink:{int.from_bytes(data[4:8], 'big' if big_endian else 'little')}"
    return _FAMILIES.get(family, f"family {family}")


def _unix(path: bytes) -> str:
    """A path ends at NUL; an abstract name begins with one and has a length of its own (unix(7))."""
    if path[:1] == b"\0" and len(path) > 1:
        return "@" + escape(path[1:], _ARROW)
    return escape(path.split(b"\0", 1)[0], _ARROW)


_DELETED: Final = " (deleted)"
"""What the kernel says after the path of a file that has none any more (fs/d_path.c)."""

_ARROW: Final = ">"
"""Gets a backslash within an address, so that none of its own makes an arrow."""


def join(base: str, how: Join, text: str) -> str | None:
    """The name that a call makes out of its source's name and a text; None if none can be told."""
    if how is Join.PATH:
        return path_below(base, text)
    if how is Join.ROOTED:
        return rooted(base, text)
    if how is Join.ACCEPT:
        listening = base.split("->")[0].split("<-")[0]
        return f"{listening}<-{text}" if text else listening
    if how is Join.PEER:
        bare = base.split("->")[0]
        return f"{bare}->{text}" if text else bare
    if how is Join.LOCAL:
        bare, arrow, peer = base.partition("->")
        return f"{bare.split(' at ')[0]} at {text}{arrow}{peer}" if text else base
    return base if how is Join.SAME else text


def as_they_are(paths: TextArray) -> tuple[Mask, Mask]:
    """Which paths are absolute, and which of these `path_below` leaves as they are, as far as a quick look tells."""
    absolute, is_tidy, of_kernel = look_at_paths(paths)
    same: Mask = absolute & is_tidy & (np.diff(paths.offsets) <= PATH_MAX)
    doubtful = np.flatnonzero(same & of_kernel)
    same[doubtful] = [_MAGIC.match(path) is None for path in take_texts(paths, doubtful).to_list()]
    return absolute, same


def climbs(path: str) -> bool:
    """Whether a path goes up somewhere."""
    return ".." in path.split("/")


def rooted(root: str, path: str) -> str | None:
    """An absolute path in a process's own root; one that goes up may meet that root, and is unknown then."""
    if root == "/" or not root.startswith("/") or climbs(path):
        return path if root == "/" else None
    return path_below("", f"{root}{path}")


def path_below(folder: str, path: str) -> str | None:
    """An absolute path, from a folder's (which does not matter if the path is absolute itself)."""
    if not path.startswith("/"):
        if not folder.startswith("/") or folder.endswith(_DELETED):
            return None
        path = f"{folder}/{path}"
    whole = path
    if _UNTIDY.search(path):
        parts = [part for part in path.split("/") if part not in ("", ".")]
        while parts and parts[0] == "..":
            del parts[0]
        whole = "/" + "/".join(parts)
    return None if len(whole) > PATH_MAX or _MAGIC.match(whole) else whole

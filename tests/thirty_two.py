"""Rows of 32-bit programs against their own account: the lines that `guest/compat.c` and `guest/bare_mips.c` print."""

from __future__ import annotations

import re
from typing import Any

WIDE = {
    "pread64": {3}, "pwrite64": {3}, "ftruncate64": {1}, "truncate64": {1}, "readahead": {1}, "fallocate": {2, 3},
    "fadvise64": {1, 2}, "fadvise64_64": {1, 2}, "arm_fadvise64_64": {2, 3}, "sync_file_range": {1, 2},
    "arm_sync_file_range": {2, 3},
}  # fmt: skip
"""Positions of the arguments of 64 bits; all others have 32."""
POINTERS = {"mmap", "mmap2", "brk"}
"""Calls whose result is an address."""
SUB_CALLS = {1: "sys_socket", 3: "sys_connect"}
"""What socketcall stands for, by its first argument."""
NAMES = {
    "_llseek": "sys_llseek", "fadvise64": "sys_fadvise64_64", "arm_fadvise64_64": "sys_fadvise64_64",
    "arm_sync_file_range": "sys_sync_file_range2", "getuid32": "sys_getuid", "mmap": "sys_old_mmap",
    "mmap2": "sys_mmap_pgoff",
}  # fmt: skip
"""Names of functions, where the number's name is another."""


def signed(value: int, bits: int) -> int:
    """A number of so many bits, as the signed one that it is."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def same_arguments(found: list[int], line: dict[str, Any]) -> bool:
    """Whether the argument columns hold what was passed; of 32 bits an address is unsigned, and a number signed."""
    wide = WIDE.get(line["name"], set())
    values = [int(word, 16) for word in line.get("args", line["words"])]
    return len(found) == len(values) and all(
        value == signed(told, 64) if position in wide else value in (told, signed(told, 32))
        for position, (value, told) in enumerate(zip(found, values, strict=True))
    )


def compare(row: dict[str, Any], line: dict[str, Any], abi: str, ret: int | None, errno: str | None) -> None:
    """Fail unless a row is what the program says it did; ``ret`` is the result as Linux's own functions give it."""
    told = f"\nrow  {row}\nline {line}"
    assert (row["abi"], row["nr"]) == (abi, line["nr"]), told
    if line["name"] and line["name"] != "socketcall":
        assert row["name"] in (f"sys_{line['name']}", NAMES.get(line["name"])), told
    elif line["name"]:
        number = int(line["words"][0], 16)
        assert row["name"] == SUB_CALLS.get(number, "sys_socketcall"), told
    assert same_arguments([row[f"arg{i}"] for i in range(6) if row[f"arg{i}"] is not None], line), told
    if ret is not None and errno is None:
        ret = ret & 0xFFFFFFFF if line["name"] in POINTERS else signed(ret, 32)
    assert (row["retno"], row["errno"]) == (ret, errno), told
    assert row["status"] == ("noreturn" if ret is None else "returned"), told
    if errno:
        assert row["retno_repr"].startswith(f"{errno}("), told
    for key in ("strings",) if errno else ("strings", "out"):
        for position, text in line[key].items():
            shown = re.fullmatch(r'\w+=0x[0-9a-f]+\("(.*)"\)', row[f"arg{position}_repr"], re.DOTALL)
            assert shown, told
            assert shown[1].encode().decode("unicode_escape").encode("latin-1") == bytes.fromhex(text), told
    for position, items in line.get("lists", {}).items():
        shown = re.fullmatch(r"\w+=0x[0-9a-f]+\(\[(.*)\]\)", row[f"arg{position}_repr"], re.DOTALL)
        assert shown, told
        assert [item.encode() for item in re.findall(r"'([^']*)'", shown[1])] == [bytes.fromhex(i) for i in items], told

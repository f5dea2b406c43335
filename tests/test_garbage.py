"""What a process keeps of freed memory, and of which pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from printed import printed_by

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc, glibc")

_LOOK = """
import json
from pathlib import Path
import numpy as np
from process import garbage

def flags(array):
    "What the kernel was told of the memory that an array is in."
    mine, shown = array.ctypes.data + array.nbytes // 2, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, told = line.partition(" ")
        if not name.endswith(":"):
            start, end = (int(one, 16) for one in name.split("-"))
            shown = start <= mine < end
        elif shown and name == "VmFlags:":
            return told.split()

def is_allowed():
    "Whether this process may have huge pages."
    return "THP_enabled:\\t1" in Path("/proc/self/status").read_text()

def small_array():
    "One for which numpy itself asks nothing."
    return np.ones(1 << 20, np.uint8)
"""


def told_by(code: str) -> Any:
    """What a script prints as JSON, in a process whose malloc nobody has told anything."""
    return json.loads(printed_by(_LOOK + code))


needs_huge_pages = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without them"
)


@needs_huge_pages
def test_who_decodes_gets_huge_pages_before_and_after_memory_is_given_back() -> None:
    found = told_by("""
garbage.collect_rarely()
garbage.take_small_pages()
found = [(is_allowed(), "hg" in flags(small_array()))]
spare = garbage.Spare()
spare.begin(len)
first = [small_array() for _ in range(100)]
found.append((is_allowed(), all("hg" in flags(one) for one in first[::20])))
del first
spare.settle()
garbage.give_back()
found.append((is_allowed(), "hg" in flags(small_array())))
print(json.dumps(found))
""")
    assert found == [[False, False], [True, True], [True, True]]


@needs_huge_pages
def test_a_process_of_others_that_wants_no_huge_pages_gets_none() -> None:
    found = told_by("""
garbage.take_small_pages()
garbage.Spare().begin(len)
print(json.dumps(is_allowed()))
""")
    assert found is False


def test_room_for_huge_pages_is_not_held() -> None:
    before, after = told_by("""
garbage.keep_freed()
before = garbage.resident()
garbage.take_huge_pages()
print(json.dumps([before, garbage.resident()]))
""")
    assert after - before < 16 << 20


def test_room_leaves_most_of_a_limit_to_what_is_taken() -> None:
    before, after = told_by("""
from process.backstop import confine, _data
garbage.keep_freed()
confine(256 << 20)
before = _data()
garbage.take_huge_pages()
print(json.dumps([before, _data()]))
""")
    assert 16 << 20 <= after - before <= 48 << 20


@pytest.mark.parametrize("is_old", [False, True], ids=["populated by the kernel", "where the kernel cannot"])
def test_what_is_taken_is_there_and_stays(is_old: bool) -> None:
    before, after, used = told_by(f"""
if {is_old}:
    garbage._MADV_POPULATE_WRITE = 9999
garbage.keep_freed()
before = garbage.resident()
garbage.take(64 << 20)
after = garbage.resident()
kept = [small_array() for _ in range(56)]
print(json.dumps([before, after, garbage.resident()]))
""")
    assert 62 << 20 <= after - before <= 70 << 20
    assert used - after < 4 << 20


def test_what_there_is_not_is_not_taken() -> None:
    before, after = told_by("""
import resource
garbage.keep_freed()
resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))
before = garbage.resident()
garbage.take_huge_pages()
garbage.take(1 << 30)
print(json.dumps([before, garbage.resident()]))
""")
    assert after - before <= 64 << 20

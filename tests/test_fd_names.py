"""Paths looked at all at once are those that are looked at one by one."""

from __future__ import annotations

from itertools import product

from process.fd_names import PATH_MAX, as_they_are, path_below
from process.text_array import TextArray


def test_a_path_is_left_as_it_is_where_normalising_would() -> None:
    parts = ("", "a", ".", "..", ".b", "c..", "proc", "self", "fd", "exe", "dev", "stdin", "5")
    paths = ["/" + "/".join(some) for length in (1, 2, 3, 4) for some in product(parts, repeat=length)]
    paths += ["/" + "x" * (PATH_MAX - 1), "/" + "x" * PATH_MAX]
    absolute, same = as_they_are(TextArray.of([*paths, "", "a/../b", "proc/self/fd"]))
    assert absolute.tolist() == [True] * len(paths) + [False] * 3
    kept = same.tolist()[: len(paths)]
    unchanged = [path_below("", path) == path for path in paths]
    assert all(same for same, quick in zip(unchanged, kept, strict=True) if quick)
    slow = [path for path, same, quick in zip(paths, unchanged, kept, strict=True) if same and not quick]
    assert all(path == "/" or "/.." in path for path in slow)  # these are looked at one by one
    assert 0 < sum(kept) < len(kept)

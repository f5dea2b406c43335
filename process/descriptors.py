"""The names of the descriptors that a segment's calls are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from capture.segment import SegmentError
from process.batch import Batch
from process.calls import Rules
from process.events import DURATION, FLAGS_ENTRY, TIME, Flags, Ready, Words
from process.fd_records import CWD, NONE, Scan, joined, recode
from process.fd_resolve import Answers, Questions, Resolver
from process.fd_scan import Scanner
from process.fd_state import Start, give_time, place, plant
from process.kernels_events import asked_by
from process.merge import load_batch
from process.slices import Slices
from process.text_array import TextArray

Numbers = npt.NDArray[np.int64]

_FOLDER = re.compile(r"d(?:ir)?fd$")
"""Names of arguments for which AT_FDCWD stands for the current folder."""


def may_be_folder(call: str, name: str) -> bool:
    """Whether an argument of a call is a folder that paths count from."""
    return bool(_FOLDER.search(name)) or (call == "sys_fanotify_mark" and name == "fd")


def to_fd(values: Words, may_be_cwd: npt.NDArray[np.bool_]) -> Numbers:
    """Registers as descriptors: C's int; `NONE` for a negative one that stands for nothing."""
    fd = values.astype(np.uint32).view(np.int32).astype(np.int64)
    return np.where((fd >= 0) | ((fd == CWD) & may_be_cwd), fd, NONE)


class Descriptors:
    """Answers for one segment.

    Attributes:
        names: Texts of names by their codes.
        changes: Of dtype `CHANGE`, all that the segment itself makes.
        node: The node of each, -1 if not known.
    """

    def __init__(self, start: Start, scan: Scan) -> None:
        """Prepare.

        Args:
            start: What is known when the segment starts.
            scan: Its own records, unpruned; altered.
        """
        self._start = start
        give_time(scan, start.clock)
        self.changes = scan.changes
        names, recoded = _together(start.names, scan.texts)
        recode(self.changes, recoded)
        roots = plant(self.changes, names, start.has_roots, start.folders)
        node, source = place(self.changes, start.files, start.folders, start.owners)
        self.node, before = node, len(start.changes)
        self._resolver = Resolver(
            start.nodes, joined([start.changes, self.changes]), np.concatenate([start.node, node]),
            np.concatenate([np.full(before, -1), source]), np.concatenate([np.full(before, -1), roots]),
            names, start.given,
        )  # fmt: skip
        self.names = self._resolver.names
        self._texts = TextArray.of(())

    def texts(self) -> TextArray:
        """The names, for the compiled loops."""
        if len(self._texts) < len(self.names):
            self._texts = TextArray.joined([self._texts, TextArray.of(self.names[len(self._texts) :])])
        return self._texts

    def results(self, changes: Numbers) -> Answers:
        """What descriptors were after the segment's own changes, by the changes' indices."""
        return self._resolver.results(len(self._start.changes) + changes)

    def ask(
        self, sequences: Numbers, words: Words, tasks: tuple[Words, Numbers], rows: npt.NDArray[np.intp], fds: Numbers,
        clock: Callable[[], Numbers],
    ) -> Answers:  # fmt: skip
        """What some descriptors are.

        Args:
            sequences: Of a slice of events.
            words: Of the same.
            tasks: The distinct tasks of these, and for each event an index into them.
            rows: Indices of events in it.
            fds: The descriptor that each of these was given; `CWD` for the current folder.
            clock: Gives for each event of the slice the latest return in the batch so far; asked only where needed.

        Returns:
            As `Resolver.ask`; where the descriptor is negative there is no name.
        """
        holders, which = tasks
        asked = asked_by(rows, words[TIME], words[DURATION], words[FLAGS_ENTRY], sequences, which)
        t0, t1, who = asked.t0, asked.t1, asked.which
        if len(asked.endless):
            so_far = np.maximum(clock()[rows[asked.endless]], self._start.clock)
            t1[asked.endless] = np.maximum(so_far, t0[asked.endless])
        node = self._start.files.at_of(holders, np.where(fds >= 0, who, -1), t0)
        in_folder = np.flatnonzero(fds == CWD)
        node[in_folder] = self._start.folders.at_of(holders, who[in_folder], t0[in_folder])
        return self._resolver.ask(Questions(node, fds, t0, t1, asked.seq))


def _together(names: Sequence[str], texts: Sequence[str]) -> tuple[list[str], Numbers]:
    """Names and texts as one list, each once, and the places of the texts in it; of both none is there twice."""
    codes = dict(zip(names, range(len(names)), strict=True))
    if codes.keys().isdisjoint(texts):
        return [*names, *texts], np.arange(len(names), len(names) + len(texts))
    places = [codes.setdefault(text, len(codes)) for text in texts]
    return list(codes), np.array(places, np.int64)


def scan_blocks(scanner: Scanner, blocks: Iterable[tuple[int, Words]]) -> Scan:
    """Run a scanner over event blocks: first sequence number and words of each."""
    for first, words in blocks:
        scanner.add(first, Ready(words.shape[1], words), words, Flags(words[FLAGS_ENTRY]))
    return scanner.finish()


def scan_again(batch: Batch, blocks: list[tuple[int, int]]) -> Scan:
    """What a batch does to descriptors, read from its segments once more.

    Args:
        batch: It.
        blocks: (first, count) of the EVENTS blocks to scan.

    Raises:
        SegmentError: A segment cannot be used, or is not what it was.
        OSError: It cannot be read.
    """
    loaded = load_batch(batch)
    for _, reason in loaded.failed:
        raise SegmentError(reason)
    return scan_blocks(Scanner(loaded.contents, Rules(batch.header)), Slices(loaded.contents, blocks).blocks())

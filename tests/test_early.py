"""A call that another process makes from the start on, or this one where no other can."""

import time
from pathlib import Path

import pytest

from printed import printed_by

EARLY = """
import os
from process.early import early
from workers_early import {name}
if __name__ == '__main__':
    with early({name}, {jobs}, is_apart={is_apart}) as told:
        try:
            print(told(), os.getpid())
        except ArithmeticError as error:
            print(error)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print('alone')
"""


@pytest.mark.parametrize(
    ("name", "jobs", "is_apart", "is_here"),
    [("pid", 2, False, False), ("pid", 1, False, True), ("pid", 1, True, False), ("killed", 2, False, True)],
)
def test_a_call_is_made_beside_what_the_command_loads(name: str, jobs: int, is_apart: bool, is_here: bool) -> None:
    made, own, *rest = printed_by(EARLY.format(name=name, jobs=jobs, is_apart=is_apart)).split()
    assert (made == own) == is_here
    assert rest == ["alone"]


def test_what_an_early_call_raises_is_raised_where_it_is_asked_for() -> None:
    assert printed_by(EARLY.format(name="raises", jobs=2, is_apart=False)).split() == ["here", "alone"]


def test_an_early_call_that_nobody_asks_for_ends_with_its_block() -> None:
    code = EARLY.format(name="pid", jobs=2, is_apart=False).replace("print(told(), os.getpid())", "pass")
    assert printed_by(code).split() == ["alone"]


EXPECTED = """
import os
from process.early import early, expect, forget
from workers_early import {name}
if __name__ == '__main__':
    expect('workers_early')
    expect('workers_early')
    {then}
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print('alone')
"""
ASKED = "with early({name}, {jobs}) as told: print(told(), os.getpid())"


@pytest.mark.parametrize(("name", "jobs", "is_here"), [("pid", 2, False), ("pid", 1, True), ("killed", 2, True)])
def test_a_call_that_was_expected_is_made_by_the_process_that_has_loaded_what_it_takes(
    name: str, jobs: int, is_here: bool
) -> None:
    made, own, *rest = printed_by(EXPECTED.format(name=name, then=ASKED.format(name=name, jobs=jobs))).split()
    assert (made == own) == is_here
    assert rest == ["alone"]


def test_a_call_that_does_not_come_leaves_no_process() -> None:
    assert printed_by(EXPECTED.format(name="pid", then="forget()")).split() == ["alone"]


def test_a_call_whose_module_is_not_there_is_made_all_the_same() -> None:
    code = EXPECTED.format(name="pid", then=ASKED.format(name="pid", jobs=2)).replace("'workers_early'", "'nowhere'")
    made, own, *rest = printed_by(code).split()
    assert (made == own, rest) == (True, ["alone"])


def test_a_process_that_waits_for_a_call_ends_with_the_one_that_expects_it() -> None:
    """However that ends: of itself, or killed."""
    for end in ("pass", "os.kill(os.getpid(), 9)"):
        code = "import multiprocessing, os\nfrom process.early import expect\nexpect('json')\n"
        code += f"print(multiprocessing.active_children()[0].pid, flush=True)\n{end}"
        pid = int(printed_by(code))
        until = time.monotonic() + 30
        while time.monotonic() < until and Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()

"""A call that another process makes from the start on, or this one where no other can."""

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

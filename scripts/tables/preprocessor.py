"""The part of the C preprocessor that the kernel's UAPI headers need: conditions, includes, macros without arguments.

It knows the few forms that these headers use and stops at any other, so that a change in them is seen rather than
skipped. A test holds its results against those of a real compiler.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class HeaderError(Exception):
    """A header is missing or has a form not known here; the message is one line."""


class Macro(NamedTuple):
    """A macro: the text it stands for, and the comment beside it (empty if there is none)."""

    text: str
    comment: str


OPERATORS: Mapping[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def find(header: str, include: Sequence[Path]) -> Path:
    """Returns the first `header` on an include path, as the compiler would.

    Raises:
        HeaderError: It is in none of the folders.
    """
    for folder in include:
        if (folder / header).is_file():
            return folder / header
    raise HeaderError(f"{header} is not in {', '.join(map(str, include))}")


class Preprocessor:
    """What a header and those that it includes come to.

    Attributes:
        macros: By name, in the order of their definitions.
        text: The lines that are no directives.
    """

    def __init__(self, include: Sequence[Path], defines: Mapping[str, str]) -> None:
        """Starts with macros that the compiler itself would define.

        Args:
            include: Folders to search for included headers; if there are none, none is included.
            defines: The macros.
        """
        self.macros = {name: Macro(text, "") for name, text in defines.items()}
        self.text: list[str] = []
        self._include = include

    def read(self, path: Path) -> None:
        """Reads a header.

        Raises:
            HeaderError: It has a form not known here.
        """
        # A comment may follow a value and go on over lines; it is kept with the line that it starts on.
        text = re.sub(r"/\*(.*?)\*/", lambda match: f"/*{' '.join(match[1].split())}*/", path.read_text(), flags=re.S)
        stack: list[list[bool]] = []  # of each open #if: whether its lines count, and whether a branch was taken
        for line in text.replace("\\\n", " ").splitlines():
            directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line)
            if directive:
                self._directive(path, directive[1], directive[2], stack)
            elif all(counts for counts, _ in stack):
                self.text.append(line)
        if stack:
            raise HeaderError(f"{path}: an #if has no #endif")

    def _directive(self, path: Path, word: str, rest: str, stack: list[list[bool]]) -> None:
        plain = re.sub(r"/\*.*?\*/|//.*", " ", rest).strip()
        if word in ("if", "ifdef", "ifndef"):
            counts = all(counts for counts, _ in stack) and self._holds(path, word, plain)
            stack.append([counts, counts])
        elif word in ("elif", "else"):
            top = stack[-1]
            top[0] = not top[1] and (word == "else" or self._holds(path, "if", plain))
            top[1] |= top[0]
        elif word == "endif":
            stack.pop()
        elif not all(counts for counts, _ in stack):
            return
        elif word == "include" and (match := re.fullmatch(r"<(\S+)>", plain)):
            if self._include:
                self.read(find(match[1], self._include))
        elif word == "undef":
            self.macros.pop(plain, None)
        elif word == "define" and (match := re.match(r"(\w+)(\(?)", rest)):
            if not match[2]:  # one with arguments is none of ours
                comment = re.search(r"/\*(.*?)\*/", rest)
                value = plain[len(match[1]) :].strip()
                self.macros[match[1]] = Macro(value, comment[1].strip() if comment else "")
        elif word not in ("error", "warning"):
            raise HeaderError(f"{path}: unknown directive: #{word} {rest}")

    def _holds(self, path: Path, word: str, condition: str) -> bool:
        if word != "if":
            return (condition in self.macros) == (word == "ifdef")
        value = self.value(re.sub(r"\bdefined\s*\(?\s*(\w+)\s*\)?", lambda m: str(int(m[1] in self.macros)), condition))
        if value is None:
            raise HeaderError(f"{path}: unknown condition: #if {condition}")
        return bool(value)

    def value(self, expression: str) -> int | None:
        """Returns what a constant expression comes to; None if it is not one. Names that are no macros are 0."""
        for _ in range(20):  # macros that stand for macros
            expanded = re.sub(r"\b[A-Za-z_]\w*", self._expand, expression)
            if expanded == expression:
                break
            expression = expanded
        expression = re.sub(r"!(?!=)", " not ", expression.replace("&&", " and ").replace("||", " or ")).strip()
        try:
            return _evaluate(ast.parse(expression, mode="eval").body)
        except (SyntaxError, KeyError, TypeError, ValueError):
            return None

    def _expand(self, match: re.Match[str]) -> str:
        macro = self.macros.get(match[0])
        return f"({macro.text})" if macro and macro.text else "0"


def _evaluate(node: ast.AST) -> int:
    """Evaluates an expression of whole numbers.

    Raises:
        ValueError: It has something else in it.
        KeyError: An operator is not among ours.
    """
    match node:
        case ast.Constant(value=int(value)):
            return int(value)
        case ast.BinOp(left, op, right):
            return int(OPERATORS[type(op)](_evaluate(left), _evaluate(right)))
        case ast.Compare(left, [op], [right]):
            return int(OPERATORS[type(op)](_evaluate(left), _evaluate(right)))
        case ast.BoolOp(op, values):
            return int((all if isinstance(op, ast.And) else any)(_evaluate(value) for value in values))
        case ast.UnaryOp(ast.Not(), operand):
            return int(not _evaluate(operand))
    raise ValueError(ast.dump(node))

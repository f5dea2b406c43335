"""Reads the kernel's headers: syscall numbers, errnos, prototypes.

Not a C parser: it knows the few forms that these headers use and stops at any
other, so that a change in them is seen rather than skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class HeaderError(Exception):
    """A header is missing or has a form not known here; the message is one line."""


class Parameter(NamedTuple):
    """A parameter of a prototype; the name is empty where the header gives none."""

    ctype: str
    name: str


class Define(NamedTuple):
    """A numbered errno with its comment, empty where the header has none."""

    number: int
    name: str
    text: str


def find(header: str, include: Sequence[Path]) -> Path:
    """Returns the first `header` on an include path, as the compiler would.

    Raises:
        HeaderError: It is in none of the folders.
    """
    for folder in include:
        if (folder / header).is_file():
            return folder / header
    raise HeaderError(f"{header} is not in {', '.join(map(str, include))}")


def syscall_numbers(path: Path) -> dict[str, int]:
    """Returns the `__NR_` names (without that prefix) and numbers of asm/unistd*.h.

    Raises:
        HeaderError: A number is not a plain decimal.
    """
    numbers = {}
    for name, value in re.findall(r"^#define __NR_(\w+)\s+(\S+)", path.read_text(), re.MULTILINE):
        if not value.isdigit():
            raise HeaderError(f"{path}: __NR_{name} is {value}, not a number")
        numbers[name] = int(value)
    return numbers


def errnos(path: Path, include: Sequence[Path]) -> Iterator[Define]:
    """Yields the errnos of a header and of those it includes.

    An alias, `#define EWOULDBLOCK EAGAIN`, has a name where a number should be
    and is left out: its number has its own name already.
    """
    text = path.read_text()
    for header in re.findall(r"^#\s*include <(asm\S+)>", text, re.MULTILINE):
        yield from errnos(find(header, include), include)
    define = r"^#define\s+(E\w+)\s+(\d+)[ \t]*(?:/\*\s*(.*?)\s*\*/)?\s*$"
    for name, number, comment in re.findall(define, text, re.MULTILINE):
        yield Define(int(number), name, comment)


def prototypes(path: Path, bits: int, config: frozenset[str]) -> dict[str, tuple[Parameter, ...]]:
    """Returns the parameters of the `sys_*` declarations in include/linux/syscalls.h.

    Args:
        path: The header.
        bits: The ABI's BITS_PER_LONG.
        config: Symbols that are defined for the ABI (CONFIG_*, __ARCH_WANT_*).

    Raises:
        HeaderError: A condition has an unknown form, or a call is declared twice.
    """
    text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.DOTALL)
    _, opening, declarations = text.partition("#ifndef CONFIG_ARCH_HAS_SYSCALL_WRAPPER\nasmlinkage")
    if not opening:
        raise HeaderError(f"{path}: the prototypes' #ifndef is not found")
    kept = "\n".join(_kept_lines("asmlinkage" + declarations, bits, config))
    found: dict[str, tuple[Parameter, ...]] = {}
    for name, inside in re.findall(r"\basmlinkage\s+long\s+(sys_\w+)\s*\(([^)]*)\)\s*;", kept):
        if name in found:
            raise HeaderError(f"{path}: {name} is declared twice")
        void = inside.strip() == "void"
        found[name] = () if void else tuple(parameter(text) for text in inside.split(","))
    return found


def _kept_lines(text: str, bits: int, config: frozenset[str]) -> Iterator[str]:
    """Yields the lines that the preprocessor would keep, from inside the first #if.

    Stops at that condition's own #endif: the prototypes lie within
    `#ifndef CONFIG_ARCH_HAS_SYSCALL_WRAPPER`, which only hides them from C.
    """
    keep = [True]
    for line in text.splitlines():
        words = line.split(maxsplit=1)
        directive = words[0] if words else ""
        if directive == "#endif":
            keep.pop()
            if not keep:
                return
        elif directive == "#else":
            keep[-1] = not keep[-1]
        elif directive in ("#if", "#ifdef", "#ifndef"):
            keep.append(_holds(directive, words[1], bits, config))
        elif directive.startswith("#"):
            raise HeaderError(f"unknown directive among the prototypes: {line}")
        elif all(keep):
            yield line
    raise HeaderError("the prototypes' #ifndef has no #endif")


def _holds(directive: str, condition: str, bits: int, config: frozenset[str]) -> bool:
    """Evaluates #ifdef, #ifndef, and #if with `defined(X)`, `BITS_PER_LONG == N` and `||`."""
    if directive != "#if":
        return (condition.strip() in config) == (directive == "#ifdef")
    results = []
    for operand in condition.split("||"):
        if match := re.fullmatch(r"\s*defined\((\w+)\)\s*", operand):
            results.append(match[1] in config)
        elif match := re.fullmatch(r"\s*BITS_PER_LONG == (\d+)\s*", operand):
            results.append(int(match[1]) == bits)
        else:
            raise HeaderError(f"unknown condition among the prototypes: #if {condition}")
    return any(results)


TYPE_WORDS = frozenset({"char", "short", "int", "long", "signed", "unsigned", "const"})
TAG_WORDS = frozenset({"struct", "union", "enum"})


def parameter(text: str) -> Parameter:
    """Splits a parameter's C text into type and name; the name may be missing.

    The type keeps the header's words, without `__user` and in one spacing:
    `const char *const *`.
    """
    tokens = re.findall(r"\w+|\*", text.replace("__user", " "))
    name = ""
    last_is_type = tokens[-1] == "*" or tokens[-1] in TYPE_WORDS
    if not last_is_type and len(tokens) > 1 and tokens[-2] not in TAG_WORDS:
        name = tokens.pop()
    ctype = ""
    for token in tokens:
        ctype += token if not ctype or ctype.endswith("*") else f" {token}"
    return Parameter(ctype, name)

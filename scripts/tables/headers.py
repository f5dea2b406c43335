"""Reads the kernel's headers: syscall numbers, errnos, prototypes.

Not a C parser: it knows the few forms that these headers use and stops at any
other, so that a change in them is seen rather than skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tables.preprocessor import HeaderError, Preprocessor, find

__all__ = ["Define", "HeaderError", "Number", "Parameter", "errnos", "find", "parameter", "prototypes", "syscalls"]

# __NR_ names of asm-generic/unistd.h that are no calls: one more than the last number, and the first of those that an
# architecture may use.
NO_CALLS = frozenset({"syscalls", "arch_specific_syscall"})


class Parameter(NamedTuple):
    """A parameter of a prototype; the name is empty where the header gives none."""

    ctype: str
    name: str


class Define(NamedTuple):
    """A numbered errno with its comment, empty where the header has none."""

    number: int
    name: str
    text: str


class Number(NamedTuple):
    """A syscall's number, and its entry point where the header says it, else empty."""

    number: int
    entry: str


def syscalls(path: Path, include: Sequence[Path], defines: Mapping[str, str], bits: int) -> dict[str, Number]:
    """Returns the syscalls of asm/unistd*.h by their `__NR_` or `__ARM_NR_` names, without that prefix.

    asm-generic/unistd.h has the entry points beside the numbers: `__SYSCALL(__NR_close, sys_close)`, or one of a few
    other macros that choose between entry points.

    Raises:
        HeaderError: A number is not a number, or two calls have the same.
    """
    header = Preprocessor(include, defines)
    header.read(path)
    entries: dict[int | None, str] = {}
    for which, inside in re.findall(r"\b(__SYSCALL|__SC_\w+)\(([^()]*)\)", "\n".join(header.text)):
        number, *choice = (word.strip() for word in inside.split(","))
        entries[header.value(number)] = choice[1 if which.endswith("3264") and bits == 64 else 0]
    found: dict[str, Number] = {}
    names: dict[int, str] = {}
    for macro, (text, _) in header.macros.items():
        match = re.fullmatch(r"__(?:ARM_)?NR_([a-z_]\w*)", macro)
        if match is None or match[1] in NO_CALLS:
            continue
        value = header.value(text)
        if value is None or not text:
            raise HeaderError(f"{path}: {macro} is {text}, not a number")
        if value not in names:
            names[value], found[match[1]] = match[1], Number(value, entries.get(value, ""))
        elif not re.fullmatch(r"__NR_\w+", text):  # what only gives a call another name is no call
            raise HeaderError(f"{path}: {macro} has the number of {names[value]}")
    return found


def errnos(path: Path, include: Sequence[Path], defines: Mapping[str, str]) -> Iterator[Define]:
    """Yields the errnos of a header and of those it includes.

    An alias, `#define EWOULDBLOCK EAGAIN`, has a name where a number should be
    and is left out: its number has its own name already.
    """
    header = Preprocessor(include, defines)
    header.read(path)
    for name, (text, comment) in header.macros.items():
        if re.fullmatch(r"E\w+", name) and text.isdigit():
            yield Define(int(text), name, comment)


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

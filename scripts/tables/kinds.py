"""Decides what each syscall argument is: a value, an fd, a string, a buffer...

Types alone do not tell: `char *` is a path in `sys_umount`, an address in
`sys_shmat` and bytes with a length in `sys_write`. So a rule decides by type
and name, `argument_kinds.tsv` lists what the rule would get wrong or cannot
know, with the reason, and a char pointer that neither decides is an error.
The kinds' meanings are in `process/prototypes.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tables.headers import HeaderError, Parameter

FD_NAME = re.compile(r".*fd|fd_?(in|out)|fildes|mqdes")
STRING_NAME = re.compile(r".*(name|path)")
BUFFER_NAME = re.compile(r"buf")

# Typedefs that hide a pointer (include/uapi/linux/capability.h).
POINTER_TYPES = frozenset({"cap_user_header_t", "cap_user_data_t", "const cap_user_data_t"})

Decided = dict[tuple[str, str], str]
"""(syscall, argument) to kind, from `argument_kinds.tsv`."""


class Argument(NamedTuple):
    """A parameter and its kind."""

    ctype: str
    name: str
    kind: str


def classify(syscall: str, parameter: Parameter, decided: Decided) -> Argument:
    """Adds its kind to a syscall's parameter.

    Raises:
        HeaderError: It is a char pointer that nobody has decided.
    """
    kind = decided.get((syscall, parameter.name)) or _rule(parameter)
    if not kind:
        declaration = " ".join(parameter)
        raise HeaderError(f"{syscall}: is `{declaration}` a string? say it in argument_kinds.tsv")
    return Argument(*parameter, kind)


def _rule(parameter: Parameter) -> str:
    """Returns the kind that type and name suggest; empty for a doubtful char pointer."""
    ctype, name = parameter
    if ctype in ("char *", "const char *"):
        if BUFFER_NAME.fullmatch(name):
            return "buffer"
        return "string" if STRING_NAME.fullmatch(name) else ""
    if ctype == "const char *const *":
        return "strings"
    if ctype == "unsigned char *":
        return "buffer"
    if re.fullmatch(r"(const )?(struct|union) \w+ \*", ctype):
        return "struct"
    if "*" in ctype or ctype in POINTER_TYPES:
        return "pointer"
    return "fd" if FD_NAME.fullmatch(name) else "value"

"""``process dump``."""


def dump() -> None:
    """TODO."""

"""``process info``."""


def info() -> None:
    """TODO."""

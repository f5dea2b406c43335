"""The version of both stages, and the text by which segments name their maker."""

from typing import Final

VERSION: Final = "0.1.0"
TOOL: Final = f"sysreel {VERSION}"

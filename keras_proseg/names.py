"""Names of sources, and names made short where there is little room for them."""

from collections.abc import Sequence
from pathlib import Path


def source_name(source: str | Path) -> str:
    """The last part of a source's path, of `.` too; a link has its own name, not its target's."""
    return Path(source).absolute().name


def short_names(names: Sequence[str], most: int) -> list[str]:
    """`names` of at most so many characters, each another.

    Of one that is too long its middle is left out: beginnings and ends tell names apart.
    """
    short = [_without_middle(name, most) for name in names]
    if len(set(short)) < len(short):
        short = [_without_middle(f"{n} {name}", most) for n, name in enumerate(names, 1)]
    return short


def _without_middle(name: str, most: int) -> str:
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"

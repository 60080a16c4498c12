"""Progress bars, on standard error, only where somebody looks."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def progress_bar(items: Sequence[Any], label: str, shown: bool = True) -> Iterable[Any]:
    """Iterates over `items` under a bar; silent when standard error is no terminal."""
    if not shown or not sys.stderr.isatty():
        return items
    return _tracked(items, label)


def _tracked(items: Sequence[Any], label: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, label, console=Console(stderr=True), transient=True)

"""Progress bars, on standard error, only where somebody looks."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def progress_bar(
    items: Iterable[Any], label: str, shown: bool = True, total: int | None = None
) -> Iterable[Any]:
    """Iterates over `items` under a bar; silent when standard error is no terminal.

    Args:
        items: what to iterate over.
        label: says what is being done.
        shown: whether to show the bar.
        total: how many items there are, where they have no length.
    """
    if not shown or not sys.stderr.isatty():
        return items
    return _tracked(items, label, total)


@contextmanager
def counting_bar(total: int, done: int, label: str) -> Iterator[Callable[[], None]]:
    """A bar of `total` of which `done` are done; gives the function that counts one more."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda: bar.advance(task)


def _tracked(items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, label, total=total, console=Console(stderr=True), transient=True)

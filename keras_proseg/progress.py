"""Progress bars, on standard error, only where somebody looks."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def progress_bar(items: Sequence[Any], label: str, shown: bool = True) -> Iterable[Any]:
    """Iterates over `items` under a bar; silent when standard error is no terminal."""
    if not shown or not sys.stderr.isatty():
        return items
    return _tracked(items, label)


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


def _tracked(items: Sequence[Any], label: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, label, console=Console(stderr=True), transient=True)

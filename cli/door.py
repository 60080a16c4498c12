"""What the door makes of errors, warnings and signals: one line, and the right exit code."""

import io
import signal
import sys
import warnings
from contextlib import suppress
from typing import Any

import click

from keras_proseg.errors import ProSegError

MOST_FINDINGS = 20


class Door(click.Group):
    """Turns the library's errors into one clear line and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        warnings.showwarning = _one_line_warning
        _print_any_name()
        end_at_signals()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("Stopped by Ctrl-C", 128 + signal.SIGINT)
        except ProSegError as error:
            _fail(error, error.exit_code)
        except UnicodeEncodeError as error:  # a file's name that no text may hold
            until = error.object[: error.end][-40:]
            _fail(f"Names must be whole UTF-8 to be stored. Received: {until!r}", 1)
        except MemoryError:
            _fail("The data must fit in memory. Received: not enough memory", 1)
        except BrokenPipeError:  # `| head`, of which click knows
            raise
        except OSError as error:
            _fail(f"Files must be readable and writable. Received: {error}", 1)


def end_at_signals() -> None:
    """What is half-written is removed, as at Ctrl-C, where a scheduler or a terminal ends us."""
    for name in ("SIGTERM", "SIGHUP"):  # no SIGHUP on Windows
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) == signal.SIG_IGN:  # as by nohup
            continue
        with suppress(ValueError):  # signals can be set in the main thread only
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def _fail(message: Any, code: int) -> None:
    findings = [str(finding) for finding in getattr(message, "findings", [])]
    for line in findings[:MOST_FINDINGS] or [message]:
        click.echo(f"Error: {' '.join(str(line).split())}", err=True)
    if len(findings) > MOST_FINDINGS:
        more = len(findings) - MOST_FINDINGS
        click.echo(f"Error: {more} more; `keras-proseg data verify` names all.", err=True)
    sys.exit(code)


def _print_any_name() -> None:
    """Lets names of files that are no UTF-8 be printed, as on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _one_line_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning) and "shuffle=True" not in str(message):
        click.echo(f"Warning: {message}", err=True)

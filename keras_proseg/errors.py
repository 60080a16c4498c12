"""The two errors a user can cause; each message is one line: what was expected, what came."""

from typing import Any


class ProSegError(ValueError):
    """Something given from outside (a file, an array, a run) is not what it must be."""

    exit_code = 1


class UsageError(ProSegError):
    """A command or call asks for something that does not exist or contradicts itself."""

    exit_code = 2


def reason_of(error: BaseException) -> str:
    """The first line that another library's error says, or its kind."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def require(condition: bool, name: str, expected: str, received: Any) -> None:
    """Raises the project's one form of error unless `condition` holds."""
    if not condition:
        raise ProSegError(f"{name} must be {expected}. Received: {received}")

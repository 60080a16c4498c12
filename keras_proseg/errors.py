"""The two errors a user can cause; each message is one line: what was expected, what came."""


class ProSegError(ValueError):
    """Something given from outside (a file, an array, a run) is not what it must be."""

    exit_code = 1


class UsageError(ProSegError):
    """A command or call asks for something that does not exist or contradicts itself."""

    exit_code = 2

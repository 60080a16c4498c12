"""What is wrong with data: every finding names the file, what was found and the remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_proseg.errors import ProSegError, UsageError

SIMULATED = "NOTE: the PIXELS ARE SIMULATED (no DICOM files); the outlines are real readers'."
MOST_NOTES = 5  # shown by commands that do other things


@dataclass(frozen=True)
class Finding:
    """One thing to know about data; `fatal` ones must be mended before training."""

    file: str
    what: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        text = f"{self.file}: {self.what} -> {self.remedy}"
        return " ".join(text.splitlines())  # names may hold any sign


def note_lines(notes: dict[str, Any]) -> list[str]:
    """The first few of the findings in a dataset's `notes` for people, and how many more."""
    findings = notes.get("findings", [])
    lines = [f"note  {Finding(*each)}" for each in findings[:MOST_NOTES]]
    if len(findings) > MOST_NOTES:
        lines.append(f"{len(findings) - MOST_NOTES} more; `keras-proseg data verify` names all.")
    return lines


class DataError(ProSegError):
    """Data that must be mended; `findings` holds every reason, one line each in the message."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


class Findings:
    """Collects findings, so that all are reported at once.

    Args:
        source: the file or folder that findings without one of their own belong to.
    """

    def __init__(self, source: str = "data") -> None:
        self.source = source
        self.items: list[Finding] = []
        self._seen: set[Finding] = set()

    def add(self, what: str, remedy: str, file: Any = None, fatal: bool = True) -> None:
        """Adds a finding, once."""
        finding = Finding(str(file or self.source), what, remedy, fatal)
        if finding not in self._seen:
            self._seen.add(finding)
            self.items.append(finding)

    def note(self, what: str, remedy: str, file: Any = None) -> None:
        """Adds a finding that need not be mended."""
        self.add(what, remedy, file, fatal=False)

    def attempt(
        self, remedy: str, call: Callable[..., Any], *arguments: Any, file: Any = None
    ) -> Any:
        """What `call` returns; None, and a fatal finding, where it raises a `ProSegError`.

        Raises:
            UsageError: as `call` does; nothing is wrong with the data.
        """
        try:
            return call(*arguments)
        except UsageError:
            raise
        except DataError as error:
            self.items += error.findings
        except ProSegError as error:
            own = str(file or self.source)
            self.add(str(error).removeprefix(f"{own}: ").removeprefix(f"{own} "), remedy, file)
        return None

    @property
    def fatal(self) -> list[Finding]:
        """Those that must be mended."""
        return [finding for finding in self.items if finding.fatal]

    def check(self) -> None:
        """Raises when something must be mended.

        Raises:
            DataError: with every fatal finding.
        """
        if self.fatal:
            raise DataError(self.fatal)

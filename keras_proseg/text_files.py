"""JSON and CSV files, written atomically."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from keras_proseg.errors import ProSegError
from keras_proseg.files import atomic_file


def write_json(path: str | Path, content: Any) -> None:
    """Writes `content` as indented JSON, atomically; `without_nan`."""
    text = json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def without_nan(content: Any) -> Any:
    """`content` for JSON, which has no nan and no infinity: they become null."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def with_nan(summary: dict[str, Any]) -> dict[str, Any]:
    """Scores as they were before JSON: null, alone or in an interval, is nan."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(v) for v in value]
        return math.nan if value is None else value

    return {name: number(value) for name, value in summary.items()}


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        ProSegError: `path` is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProSegError(f"Cannot read {path}: expected a JSON file. Received: {error}") from error


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows with the union of their columns, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(rows)

"""The run directory: what `train` leaves, and all that later commands need.

config.json (resolved settings, versions, fingerprint), split.csv (the sides of the cases),
plan.json (number of steps), history.csv, last.keras and best.keras (with optimiser state),
metrics.json, cases.csv, samples.png.
"""

import csv
import shutil
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_proseg.errors import ProSegError, UsageError, reason_of, require
from keras_proseg.files import atomic_file, check_new_folder
from keras_proseg.names import source_name
from keras_proseg.plan import Plan
from keras_proseg.run_config import RunConfig
from keras_proseg.text_files import read_json, write_csv, write_json

OF_HISTORY = {"step", "loss", "val_ged", "val_dice_rater", "seconds", "cpu_seconds"}


class Run(RunConfig):
    """A run directory.

    Args:
        path: the directory.
        is_new: it was made for this run.
    """

    def __init__(self, path: str | Path, is_new: bool = False) -> None:
        super().__init__(path)
        self.is_new = is_new

    @classmethod
    def create(cls, out: str | Path | None, source: str) -> "Run":
        """A new directory, by default `runs/<date>-<source>`.

        Raises:
            UsageError: `out` is a file or not empty.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = Path(out) if out else Path("runs") / f"{stamp}-{Path(source_name(source)).stem}"
        check_new_folder(path, "--out")
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=bool(out))  # a dated one may be another run's by now
        except OSError as error:
            raise ProSegError(
                f"Cannot make {path}: expected a writable place. Received: {error.strerror}"
            ) from error
        return cls(path, is_new)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run.

        Raises:
            ProSegError: no directory with a config.json of this package.
        """
        run = cls(path)
        run.check()
        return run

    def discard_unless_begun(self) -> None:
        """Removes what was written, and a directory that was made for it, until it has a model."""
        if (self.path / "last.keras").exists():
            return
        for name in ("split.csv", "config.json", "plan.json", "history.csv"):
            (self.path / name).unlink(missing_ok=True)
        if self.is_new:
            with suppress(OSError):  # somebody else's file
                self.path.rmdir()

    def plan(self) -> Plan | None:
        """The plan in force, once there is one.

        Raises:
            ProSegError: plan.json was changed into something else.
        """
        file = self.path / "plan.json"
        try:
            return Plan(**read_json(file)) if file.is_file() else None
        except (TypeError, UsageError) as error:
            raise ProSegError(f"{file} must hold the plan of a run. Received: {error}") from error

    def write_plan(self, plan: Plan) -> None:
        """Writes plan.json."""
        write_json(self.path / "plan.json", asdict(plan))

    def save_model(self, model: Any, name: str) -> None:
        """Saves `<name>.keras` with optimiser state, atomically."""
        with atomic_file(self.path / f"{name}.keras") as temporary:
            model.save(temporary)

    def keep_as_best(self) -> None:
        """Copies last.keras to best.keras, atomically."""
        with atomic_file(self.path / "best.keras") as temporary:
            shutil.copyfile(self.path / "last.keras", temporary)

    def load_model(self, name: str = "best") -> Any:
        """The model in `<name>.keras`.

        Raises:
            ProSegError: the file is missing or damaged.
        """
        file = self.path / f"{name}.keras"
        if not file.is_file():
            raise ProSegError(f"{self.path} must hold {name}.keras. Received: no such file")
        return read_model(file)

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv.

        Raises:
            ProSegError: it was changed into something else.
        """
        file = self.path / "history.csv"
        if not file.is_file():
            return []
        try:
            with file.open(newline="", encoding="utf-8") as handle:
                rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]
            if any(not row.keys() >= OF_HISTORY for row in rows):
                raise ValueError(f"a row without {', '.join(sorted(OF_HISTORY))}")
            rows = [row | {"step": int(row["step"])} for row in rows]
        except (TypeError, ValueError, OverflowError, csv.Error) as error:
            text = f"{file} must hold the numbers of every checkpoint. Received: {error}"
            raise ProSegError(text) from error
        return rows

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Writes history.csv whole."""
        write_csv(self.path / "history.csv", rows)


def read_model(file: Path) -> Any:
    """The model in a `.keras` file.

    Raises:
        ProSegError: it is damaged, or holds none.
    """
    from keras.saving import load_model

    from keras_proseg.model import ProSeg

    try:
        model = load_model(file)
    except ProSegError:
        raise
    except Exception as error:
        # Keras calls a file that is no archive one that it does not find.
        broken = file.is_file() and not zipfile.is_zipfile(file)
        reason = "a damaged file" if broken else reason_of(error)
        raise ProSegError(f"{file} must be a whole model. Received: {reason}") from error
    require(isinstance(model, ProSeg), str(file), "a ProSeg model", type(model).__name__)
    return model

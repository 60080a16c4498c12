"""The run directory: what `train` leaves, and all that later commands need.

config.json (resolved settings, versions, fingerprint), plan.json (number of steps),
history.csv, last.keras and best.keras (with optimiser state), metrics.json, cases.csv, samples.png.
"""

import csv
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from keras_proseg.config import ModelConfig, TrainConfig, default_rater_order, of_saved, to_dict
from keras_proseg.errors import ProSegError, UsageError, reason_of
from keras_proseg.files import atomic_file, check_new_folder, read_json, write_csv, write_json
from keras_proseg.plan import Plan
from keras_proseg.versions import versions

OF_HISTORY = {"step", "loss", "val_ged", "val_dice_rater", "seconds", "cpu_seconds"}
Settings = TypeVar("Settings", ModelConfig, TrainConfig)


class Run:
    """A run directory.

    Args:
        path: the directory.
        is_new: it was made for this run.
    """

    def __init__(self, path: str | Path, is_new: bool = False) -> None:
        self.path, self.is_new = Path(path), is_new

    @classmethod
    def create(cls, out: str | Path | None, source: str) -> "Run":
        """A new directory, by default `runs/<date>-<source>`.

        Raises:
            UsageError: `out` is a file or not empty.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = Path(out) if out else Path("runs") / f"{stamp}-{Path(source).stem}"
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
        if not run.config_file.is_file():
            raise ProSegError(
                f"{path} must be a run directory with a config.json. Received: none there"
            )
        config = read_json(run.config_file)
        if not isinstance(config, dict) or config.get("package") != "keras_proseg":
            raise ProSegError(f"{run.config_file} must be of keras_proseg. Received: another file")
        return run

    def discard_unless_begun(self) -> None:
        """Removes config.json, and the directory if it was made for it, before there is a plan."""
        if (self.path / "plan.json").exists():
            return
        self.config_file.unlink(missing_ok=True)
        if self.is_new:
            with suppress(OSError):  # somebody else's file
                self.path.rmdir()

    @property
    def config_file(self) -> Path:
        """config.json."""
        return self.path / "config.json"

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return read_json(self.config_file)

    def section(self, name: str) -> dict[str, Any]:
        """A part of config.json: `"data"`, `"model"`, `"train"` or `"versions"`.

        Raises:
            ProSegError: config.json was changed into something else.
        """
        return self.checked(name, self.config.get(name))

    def checked(self, name: str, content: Any) -> dict[str, Any]:
        """`content`, which config.json holds as `name`, being names and values.

        Raises:
            ProSegError: it is something else.
        """
        if not isinstance(content, dict):
            text = f"{self.config_file} must hold {name} as names and values."
            raise ProSegError(f"{text} Received: {content!r}")
        return content

    def train_config(self) -> TrainConfig:
        """The run's `TrainConfig`.

        Raises:
            ProSegError: config.json was changed into something else.
        """
        return self._settings(TrainConfig, self.section("train"))

    def model_config(self) -> ModelConfig:
        """The run's `ModelConfig`.

        Raises:
            ProSegError: config.json was changed into something else.
        """
        return self._settings(ModelConfig, of_saved(self.section("model")))

    def _settings(self, kind: type[Settings], values: dict[str, Any]) -> Settings:
        try:
            return kind(**values)
        except TypeError as error:
            raise ProSegError(
                f"{self.config_file} must hold the settings of a run. Received: {error}"
            ) from error

    @property
    def source(self) -> str:
        """The source of the run's data, to be loaded again.

        Raises:
            UsageError: the run was trained on arrays, or shipped without its data.
        """
        source = self.section("data").get("source")
        if source is None:
            text = f"{self.path} names no file of data: give the data (to resume, in Python)."
            raise UsageError(f"{text} Received: none")
        return source

    @property
    def origin(self) -> dict[str, Any]:
        """Of a run with an added rater: `source`, `rater_order` and `shipped` of the first one.

        Raises:
            ProSegError: config.json was changed into something else.
        """
        return self.checked("origin", self.section("data").get("origin", {}))

    @property
    def rater_order(self) -> str:
        """The order that the run was trained with, which other data takes over."""
        asked = self.train_config().rater_order
        data = self.section("data")
        return asked or data.get("rater_order") or default_rater_order(data.get("source"))

    def write_config(self, model: ModelConfig, train: TrainConfig, data: dict[str, Any]) -> None:
        """Writes config.json."""
        content = {"package": "keras_proseg", "versions": versions(), "images": data["images"]}
        content |= {"data": data, "model": to_dict(model), "train": to_dict(train)}
        write_json(self.config_file, content)

    def plan(self) -> Plan | None:
        """The plan in force, once there is one.

        Raises:
            ProSegError: plan.json was changed into something else.
        """
        file = self.path / "plan.json"
        try:
            return Plan(**read_json(file)) if file.is_file() else None
        except TypeError as error:
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
        from keras.saving import load_model

        import keras_proseg.model  # noqa: F401  registers ProSeg

        file = self.path / f"{name}.keras"
        if not file.is_file():
            raise ProSegError(f"{self.path} must hold {name}.keras. Received: no such file")
        try:
            return load_model(file)
        except Exception as error:
            raise ProSegError(
                f"{file} must be a whole model. Received: {reason_of(error)}"
            ) from error

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
        except (TypeError, ValueError) as error:
            text = f"{file} must hold the numbers of every checkpoint. Received: {error}"
            raise ProSegError(text) from error
        return rows

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Writes history.csv whole."""
        write_csv(self.path / "history.csv", rows)

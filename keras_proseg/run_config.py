"""A run's config.json: resolved settings, versions, and what is known of the data."""

from pathlib import Path
from typing import Any, TypeVar

from keras_proseg.config import ModelConfig, TrainConfig, default_rater_order, of_saved, to_dict
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.text_files import read_json, write_json
from keras_proseg.versions import versions

Settings = TypeVar("Settings", ModelConfig, TrainConfig)


class RunConfig:
    """The config.json of a directory.

    Args:
        path: the directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def check(self) -> None:
        """Refuses a directory that is no run.

        Raises:
            ProSegError: no directory with a config.json of this package.
        """
        if not self.config_file.is_file():
            raise ProSegError(
                f"{self.path} must be a run directory with a config.json. Received: none there"
            )
        config = self.config
        if not isinstance(config, dict) or config.get("package") != "keras_proseg":
            raise ProSegError(f"{self.config_file} must be of keras_proseg. Received: another file")

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
        values = self.section("train")
        # Before it was a field, `seed` was the split's as well.
        return self._settings(TrainConfig, {"split_seed": values.get("seed", 0)} | values)

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
            text = f"{self.path} names no file of data: give the data (`--data`, or in Python)."
            raise UsageError(f"{text} Received: none")
        return source

    @property
    def backend(self) -> str | None:
        """The backend that the run was begun on, as far as is known."""
        return self.checked("versions", self.config.get("versions", {})).get("backend")

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

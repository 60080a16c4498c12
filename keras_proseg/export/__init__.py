"""A trained run as files that other software serves: SavedModel, ONNX, LiteRT."""

import json
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from keras_proseg.config import ExportConfig, with_settings
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.export.card import model_card
from keras_proseg.export.metadata import SHIPPED_CARD, describe
from keras_proseg.export.serving_files import model_name, write_serving_files
from keras_proseg.export.version_folders import free_version
from keras_proseg.files import atomic_folder
from keras_proseg.pretrained import card_of, find_run
from keras_proseg.runs import Run


def export_saved_model(run: str | Path, out: str | Path, **settings: Any) -> Path:
    """Writes `out/<version>/` for TensorFlow Serving, and beside it what starts the server.

    All signatures are dynamic in batch, height and width, take raw pixels and repeat themselves:
    `serving_default(image)`, `predict_rater(image, rater)`, `sample(image, rater, seed)`, the last
    two also as `..._by_name`, and `metadata(query)`; docs/serving.md has them in full.

    Args:
        run: a run directory, trained on any backend, or the name of a shipped model.
        out: folder of the versions; its name is the model's name on the server.
        **settings: fields of `ExportConfig` but `format`: `export_run` writes other formats.

    Returns:
        The folder of the version.

    Raises:
        UsageError: the version exists, an unknown setting, or Keras runs another backend than
            TensorFlow.
        ProSegError: no run, or one that is untrained or damaged.
    """
    if settings.get("format", "saved_model") != "saved_model":
        text = "`format` must be left out: `export_run` writes others."
        raise UsageError(f"{text} Received: {settings['format']}")
    return export_run(run, out, with_settings(ExportConfig(), settings))


def export_run(run: str | Path, out: str | Path, config: ExportConfig) -> Path:
    """Writes a run in the format of `config`, whole or not at all; returns the version's folder.

    A SavedModel goes to `out/<version>/`, other formats to `out/<format>/<version>/`, where a
    TensorFlow server does not look.

    Raises:
        UsageError: the version exists, `out` is no name for a server, or Keras runs another backend
            than TensorFlow.
        ProSegError: no run, or one that is untrained or damaged.
    """
    check_backend()
    name = model_name(out)
    base = Path(out) if config.format == "saved_model" else Path(out) / config.format
    version = free_version(base, config.version)
    opened = find_run(run)
    model = trained_model(opened)
    metadata = {"name": name, "version": version, **describe(opened, model, config)}
    with atomic_folder(base / str(version)) as folder, TemporaryDirectory() as scratch:
        file = Path(scratch) / "metadata.json"
        file.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        _write(folder, model, config, metadata, file)
        (folder / "MODEL_CARD.md").write_text(model_card(metadata), encoding="utf-8")
        if card := card_of(opened):
            copyfile(card, folder / SHIPPED_CARD)
    if config.format == "saved_model":
        write_serving_files(base)
    return base / str(version)


def _write(
    folder: Path, model: Any, config: ExportConfig, metadata: dict[str, Any], file: Path
) -> None:
    if config.format == "saved_model":
        from keras_proseg.export.saved_model import write_saved_model

        write_saved_model(folder, model, config, metadata, file)
        return
    copyfile(file, folder / file.name)
    if config.format == "onnx":
        from keras_proseg.export.onnx import write_onnx

        write_onnx(folder, model)
    else:
        from keras_proseg.export.litert import write_litert

        write_litert(folder, model, config)


def check_backend() -> None:
    """Raises UsageError unless Keras runs TensorFlow, which every format is written from."""
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UsageError(f"An export needs KERAS_BACKEND=tensorflow. Received: {backend}")


def trained_model(run: Run) -> Any:
    """The best model of a run.

    Raises:
        ProSegError: it is missing, damaged, none of this package, untrained, not finite, or has a
            rater without a name.
    """
    import numpy as np

    model = run.load_model("best")
    if model.steps_done < 1:
        raise ProSegError(f"{run.path} must be trained. Received: a model of 0 steps")
    if "" in model.raters:
        raise ProSegError(f'{run.path} must name every rater. Received: ""')
    for weight in model.weights:
        if not np.isfinite(weight.value.numpy()).all():
            raise ProSegError(f"{run.path} must have finite weights. Received: {weight.path}")
    return model

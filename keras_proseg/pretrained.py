"""Trained models that ship with the package, as run directories inside it.

Each holds a config.json, best.keras (weights only, in half precision), metrics.json, split.csv
(digests of what it was trained on) and the model card README.md.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_proseg.errors import UsageError, require
from keras_proseg.files import atomic_file, atomic_folder
from keras_proseg.intensities import known_intensities
from keras_proseg.run_cases import read_cases, unnamed, write_cases
from keras_proseg.run_data import names_of
from keras_proseg.runs import Run, read_model
from keras_proseg.text_files import read_json, write_json

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

FOLDER = Path(__file__).with_name("shipped")
CARD = "README.md"


def names() -> list[str]:
    """Names of the shipped models."""
    return sorted(config.parent.name for config in FOLDER.glob("*/config.json"))


def find_run(run: str | Path) -> Run:
    """The run at a path, or else the shipped model of that name.

    Raises:
        ProSegError: neither a run directory nor a name.
    """
    shipped = not Path(run).exists() and str(run) in names()
    return Run.open(FOLDER / str(run) if shipped else run)


def card_of(run: Run) -> Path | None:
    """The card of a shipped model, also where a rater was added to it.

    None of any other run, whatever lies in its folder.
    """
    name = run.path.name if run.path.parent == FOLDER else run.origin.get("shipped")
    card = FOLDER / str(name) / CARD
    return card if name in names() and card.is_file() else None


def load(run: str | Path) -> "ProSeg":
    """The best model of a run directory, the model in a `.keras` file, or a shipped model by name.

    A model of a run is compiled with the run's optimizer at its peak rates, so that `fit` goes on
    from there; a shipped one, or one with an added rater, is to be compiled for that. A file is
    read as `keras.saving.load_model` does; what intensities its model was trained on, it does not
    say.

    Raises:
        ProSegError: neither a run nor a name, or its model is damaged.
    """
    path = Path(run)
    if path.suffix in (".keras", ".h5") and not path.is_dir():
        good = path.is_file() and path.suffix == ".keras"
        received = "weights alone, for `model.load_weights`" if path.is_file() else "none there"
        require(good, str(path), "an existing .keras file", received)
        return read_model(path)
    found = find_run(run)
    model = _with_known_intensities(found)
    if model.compiled:
        from keras_proseg.optimizers import set_rates

        set_rates(model.optimizer, found.train_config())  # saved where they had come down
    return model


def load_shipped(name: str) -> "ProSeg":
    """The shipped model `name`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in names():
        known = ", ".join(names()) or "(none)"
        raise UsageError(f"`name` must be a shipped model: {known}. Received: {name}")
    return _with_known_intensities(Run.open(FOLDER / name))


def _with_known_intensities(run: Run) -> Any:
    """The run's best model, which warns of images in another unit."""
    model = run.load_model("best")
    model.known_intensities = known_intensities(run)
    return model


def ship(run: str | Path, out: str | Path) -> Path:
    """Writes a finished run as a model to ship: half precision, no optimiser, no local paths.

    Args:
        run: a run directory.
        out: the new folder; a model card belongs beside what is written there.

    Returns:
        `out`.

    Raises:
        UsageError: `out` exists.
        ProSegError: no run, or an unfinished one.
    """
    source, out = Run.open(run), Path(out)
    if out.exists():
        raise UsageError(f"`out` must be a new folder. Received: {out}")
    metrics, config = read_json(source.path / "metrics.json"), source.config
    # Neither paths nor findings, which name files, leave the house.
    config["data"] |= {"source": None, "notes": names_of(source)}
    config["train"] |= {"dicom": None}
    with atomic_folder(out) as folder:
        write_json(folder / "config.json", config)
        write_json(folder / "metrics.json", metrics)
        if (cases := read_cases(source)) is not None:
            write_cases(folder, unnamed(cases))
        _save_half(source.load_model("best"), folder / "best.keras")
    return out


def _save_half(model: Any, path: Path) -> None:
    """Saves `model` with weights rounded to half precision, whose zeros the archive squeezes."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype == np.float32:
            weight.assign(value.astype(np.float16).astype(np.float32))
    model.optimizer, model.compiled = None, False
    with atomic_file(path) as temporary, tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        model.save(plain)
        with (
            zipfile.ZipFile(plain) as whole,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as squeezed,
        ):
            for name in whole.namelist():
                with whole.open(name) as reader, squeezed.open(name, "w") as writer:
                    shutil.copyfileobj(reader, writer)

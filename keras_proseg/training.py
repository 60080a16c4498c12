"""One training run: data to run directory, resumable at every checkpoint."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import (
    DataConfig,
    ModelConfig,
    TrainConfig,
    check_not_lidc,
    preset_configs,
    with_intensity,
)
from keras_proseg.data.dataset import Dataset, rows_of
from keras_proseg.data.findings import Findings
from keras_proseg.data.fit import at_scale
from keras_proseg.data.lazy import channel_moments
from keras_proseg.data.sources import as_asked, load_dataset
from keras_proseg.data.split import split_dataset, split_rows
from keras_proseg.data.verify import check_dataset
from keras_proseg.errors import UsageError, require
from keras_proseg.files import check_new_folder
from keras_proseg.imagenet import package_file
from keras_proseg.intensities import intensities_of
from keras_proseg.memory import steps_in_memory
from keras_proseg.run_cases import case_rows, read_cases, write_cases
from keras_proseg.run_data import check_data
from keras_proseg.run_facts import announce, facts_of, note_backend
from keras_proseg.runs import Run
from keras_proseg.session import Session

OF_DATA = ("raters", "num_classes", "image_channels", "intensity")


def train(
    data: str | Dataset, out: str | Path | None = None, log: Any = print, **settings: Any
) -> Run:
    """Trains ProSeg and leaves a run directory.

    Where TensorFlow has not run yet and its threads are not set, each of its operations gets one
    thread from here on, as with any `ProSeg`.

    Args:
        data: `"lidc"`, the path of a file or folder that `load_dataset` reads, or a `Dataset`.
        out: the run directory; by default `runs/<date>-<source>`.
        log: called with lines for people.
        **settings: fields of `TrainConfig` and `ModelConfig` by name, but `raters`, `num_classes`,
            `image_channels` and `intensity`, which the data say.

    Returns:
        The finished `Run`; `keras_proseg.load(run.path)` gives its model.

    Raises:
        UsageError: unknown settings, a used `out`, or another scale than that of the data.
        ProSegError: bad data, an encoder whose weights are not installed, or a loss that stays
            non-finite.
    """
    for name in OF_DATA:
        if settings.get(name) is not None:
            text = f"`{name}` must be left out: the data say it."
            raise UsageError(f"{text} Received: {settings[name]}")
    model_config, train_config = preset_configs(settings.pop("preset", "default"), **settings)
    if model_config.encoder_start == "imagenet":
        package_file()  # before anything is read or written
    if train_config.dicom is not None:  # commands on the run may start elsewhere
        dicom = Path(train_config.dicom).expanduser().resolve()
        train_config = replace(train_config, dicom=str(dicom))
    if out is not None:
        check_new_folder(Path(out), "--out")  # before the data are read
    dataset = _dataset(data, train_config)
    train_config = at_scale(train_config, dataset.notes)
    sides = set(() if dataset.split is None else dataset.split.tolist())
    for side in ("train", "val"):
        require(side in sides, dataset.source, "of cases in train and in val", f"none in {side}")
    model_config = fit_config(model_config, dataset, train_config)
    facts, cases = facts_of(data, dataset), case_rows(dataset)
    facts["intensities"] = intensities_of(dataset, model_config.intensity)
    # After what takes long, so that of two of one name that begin together one is refused.
    run = Run.create(out, dataset.source)
    try:
        write_cases(run.path, cases)
        run.write_config(model_config, train_config, facts)
        log(f"Run: {run.path}; if it is stopped, --resume {run.path} goes on.")
        announce(dataset, facts, log)
        return _trained(run, model_config, train_config, dataset, log)
    except Exception:  # memory that is not there among them
        run.discard_unless_begun()  # else the mended command would find its folder taken
        raise


def resume(path: str | Path, data: Dataset | None = None, log: Any = print) -> Run:
    """Goes on with a run that was stopped; a finished one is only reported.

    Args:
        path: the run directory.
        data: needed when the run was trained on a `Dataset` from Python.
        log: called with lines for people.

    Raises:
        ProSegError: no run there, or its data has changed.
    """
    run = Run.open(path)
    note_backend(run, log)
    train_config = run.train_config()
    dataset = _dataset(run.source if data is None else data, train_config)
    check_data(run, dataset)
    if read_cases(run) is None:  # a run from before there was a list
        write_cases(run.path, case_rows(dataset))
    return _trained(run, run.model_config(), train_config, dataset, log)


def _trained(run: Run, model: ModelConfig, config: TrainConfig, dataset: Dataset, log: Any) -> Run:
    from keras_proseg.runtime import data_parallel, spread_operations

    spread_operations()
    devices = data_parallel(config.devices) if config.devices > 1 else nullcontext()
    with devices, steps_in_memory():
        return Session(run, model, config, dataset, log).finish()


def fit_config(
    config: ModelConfig, dataset: Dataset, data: DataConfig | None = None
) -> ModelConfig:
    """`config` with raters, channels, classes and intensities of the training cases.

    A window given in `data` is used for images of any kind.
    """
    config = replace(
        config,
        raters=dataset.raters,
        image_channels=dataset.images.shape[-1],
        num_classes=dataset.num_classes,
    )
    if data is not None and data.window_center is not None:
        window = {"center": data.window_center, "width": data.window_width}
        return with_intensity(config, mode="window", **window)
    if dataset.image_kind in ("ct", "phantom"):
        return with_intensity(config, mode="window")
    mean, spread = channel_moments(rows_of(dataset.images, split_rows(dataset, "train")))
    return with_intensity(config, mean=_plain(mean), std=_plain(np.where(spread > 0, spread, 1.0)))


def _plain(values: np.ndarray) -> float | tuple[float, ...]:
    """One number of one channel, else a tuple."""
    return float(values[0]) if len(values) == 1 else tuple(values.tolist())


def _dataset(data: str | Dataset, config: TrainConfig) -> Dataset:
    if isinstance(data, Dataset):
        check_not_lidc(config)
        findings = Findings(data.source)
        check_dataset(data, findings)
        findings.check()
        return split_dataset(as_asked(data, config), config.split_seed)
    return load_dataset(data, config)

"""The data of a run, and other data seen as what the run was trained on."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from keras_proseg.config import TrainConfig, without_lidc
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import DataError, Finding
from keras_proseg.data.fit import OtherScale, scale_of
from keras_proseg.data.sources import read_dataset
from keras_proseg.data.split import split_dataset, subset
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.run_cases import learnt_cases
from keras_proseg.runs import Run


def cases_of_run(run: Run, data: str | None, split: str) -> Dataset:
    """A run's cases of one split, or those of other data, seen as the run's own were.

    Args:
        run: the run.
        data: another source; None for the run's own.
        split: `"train"`, `"val"`, `"test"` or `"all"`.

    Raises:
        UsageError: a split that the data lacks.
        ProSegError: the run's own data have changed, or other data name other channels or
            structures.
    """
    config = _settings_for(run, data)
    dataset = read_dataset(run.source, config) if data is None else _other(data, config)
    check_names(run, dataset)
    if data is None or split != "all":  # other data may have too few patients to be split
        dataset = split_dataset(dataset, config.split_seed)
    if data is None:
        check_data(run, dataset)  # else patients trained on may be on another side by now
        return subset(dataset, split)
    dataset = subset(dataset, split)
    _warn_of_training_cases(run, dataset)
    return dataset


def _warn_of_training_cases(run: Run, dataset: Dataset) -> None:
    """Scores on cases that a model has learnt from are no scores."""
    learnt = learnt_cases(run, dataset)
    if learnt is None:
        text = f"{run.path} has no list of its cases: it may have learnt from these."
        warnings.warn(text, stacklevel=3)
    elif learnt.any():
        images, patients = learnt
        text = f"Of the {len(dataset)} cases {run.path} learnt from {images.sum()}, and"
        text = f"{text} {(patients & ~images).sum()} more are of patients named as in its training"
        warnings.warn(f"{text}: such scores say less of new ones.", stacklevel=3)


def cases_of_rater(run: Run, data: str, rater: str) -> Dataset:
    """The training cases of `data` that `rater` drew on, its raters in the order given.

    Args:
        run: the run.
        data: any source; of data with a split, its training cases.
        rater: a rater of `data`.

    Raises:
        UsageError: `data` knows no such rater, or no mask of theirs to learn from.
        ProSegError: `data` name other channels or structures.
    """
    dataset = _other(data, replace(_settings_for(run, data), rater_order="given"))
    check_names(run, dataset)
    if rater not in dataset.raters:
        text = f"`rater` must be one of {', '.join(dataset.raters)}."
        raise UsageError(f"{text} Received: {rater}")
    there = dataset.annotated[:, dataset.raters.index(rater)]
    if dataset.split is not None:
        there = there & (dataset.split == "train")
    if not there.any():
        raise UsageError(f"`rater` must have masks in training cases. Received: {rater}, none")
    return dataset.take(np.flatnonzero(there))


def _other(data: str, config: TrainConfig) -> Dataset:
    """Other data by the settings of a run; they are brought to its scale by `data prepare` only."""
    asked = scale_of(config) | ({"slices": "drawn"} if config.slices == "drawn" else {})
    scale = " ".join(f"--{name} {value}" for name, value in asked.items() if value)
    try:
        return read_dataset(data, config)
    except OtherScale as error:
        text = f"{data} must be prepared with {scale}, as the run's data were."
        raise UsageError(f"{text} Received: data of another scale") from error
    except DataError as error:
        if not any("--" in finding.remedy for finding in error.findings):
            raise
        what = f"the run was trained with {scale}, and its commands have no such options"
        remedy = "`keras-proseg data prepare` does, and what it writes is data, too"
        raise DataError([*error.findings, Finding(data, what, remedy)]) from error


def check_data(run: Run, dataset: Dataset) -> None:
    """Raises unless `dataset` and its split are what `run` was trained on.

    Raises:
        ProSegError: they have changed.
    """
    if dataset.fingerprint() != run.section("data").get("fingerprint"):
        text = f"{dataset.source} must be the data that {run.path} was trained on."
        raise ProSegError(f"{text} Received: changed data")


def names_of(run: Run) -> dict[str, list[str]]:
    """Those of `channels` and `structures`, where the data of `run` had several and named them."""
    notes = run.checked("notes", run.section("data").get("notes", {}))
    return {name: notes[name] for name in ("channels", "structures") if name in notes}


def check_names(run: Run, dataset: Dataset) -> None:
    """Raises unless channels and structures of `dataset` are those of `run`, by their names.

    Raises:
        ProSegError: both have names, and other ones.
    """
    for name, wanted in names_of(run).items():
        got = dataset.notes.get(name, wanted)
        if wanted != got:
            text = f"{dataset.source} must have the {name} {wanted}, as {run.path} has."
            raise ProSegError(f"{text} Received: {got}")


def _settings_for(run: Run, data: str | None) -> TrainConfig:
    """The settings by which a run sees `data` (None: its own) as what it was trained on."""
    # The window is the model's own, whatever the data were prepared for.
    window: dict[str, Any] = {"window_center": None, "window_width": None}
    config = replace(run.train_config(), rater_order=run.rater_order, **window)
    return config if data in (None, "lidc") else without_lidc(config)


def check_takes(model: Any, dataset: Dataset) -> None:
    """Raises unless `model` takes the images and classes of `dataset`."""
    wanted = (model.settings.image_channels, model.settings.num_classes)
    got = (dataset.images.shape[-1], dataset.num_classes)
    if wanted != got:
        raise ProSegError(
            f"{dataset.source} must have (channels, classes) = {wanted} as the run has. "
            f"Received: {got}"
        )

"""Scores a model on cases with every metric of `keras_proseg.metrics`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import SCORED_SAMPLES, check_whole
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import note_lines
from keras_proseg.errors import ProSegError, UsageError, require
from keras_proseg.files import check_folder
from keras_proseg.intensities import warn_of_other_intensities
from keras_proseg.memory import images_at_once
from keras_proseg.metrics import summarise
from keras_proseg.names import source_name
from keras_proseg.outputs.masks import save_masks as write_masks
from keras_proseg.pretrained import find_run
from keras_proseg.progress import progress_bar
from keras_proseg.run_data import cases_of_run, check_takes
from keras_proseg.scoring import cases_of, score_rows
from keras_proseg.text_files import read_json, write_csv, write_json

BATCH = 16  # cases at most
SUMMARY, TABLE = "metrics.json", "cases.csv"


def evaluate(
    model: Any,
    dataset: Dataset,
    num_samples: int = SCORED_SAMPLES,
    seed: int = 0,
    progress: bool = True,
    volumes: bool = True,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores `model` on all cases of `dataset`.

    Args:
        model: a `ProSeg`.
        dataset: its cases; `dice_rater` is of the raters that the model knows by name.
        num_samples: S, diverse samples per case.
        seed: of the samples.
        progress: show a bar.
        volumes: score a volume of several slices as one case, its masks stacked; S samples of it
            are held in memory. LIDC's cases and those of ranked raters are slices, always.

    Returns:
        The summary (plain numbers under the names of the metrics, `<name>_ci` intervals,
        `num_samples`, `num_cases`, `num_patients`, `images`) and one row per case.

    Raises:
        UsageError: fewer samples than one.
        ProSegError: no case, or images or classes that the model does not take.
    """
    check_takes(model, dataset)
    require(len(dataset) > 0, dataset.source, "of at least one case", "none")
    check_whole("num_samples", num_samples, 1)
    if unknown := [name for name in dataset.raters if name not in model.raters]:
        text = f"Raters that the model does not know: {', '.join(unknown)}."
        warnings.warn(f"{text} `dice_rater` leaves them out.", stacklevel=2)
    cases = cases_of(dataset, volumes)
    firsts = [case[0] for case in cases]
    single = len(cases) == len(dataset)
    size = (*dataset.images.shape[1:3], dataset.num_classes)
    step = min(BATCH, images_at_once(num_samples, *size))
    batches = [cases[k : k + step] for k in range(0, len(cases), step)] if single else cases
    scored = []
    for batch in progress_bar(batches, "Evaluating", progress):
        scored += score_rows(model, dataset, np.ravel(batch), num_samples, seed, not single)
    rows, bins = zip(*scored, strict=True)
    patients = dataset.patients[firsts].tolist()
    summary: dict[str, Any] = summarise(rows, patients, bins, seed=seed)
    summary |= {"num_samples": num_samples, "images": dataset.image_kind}
    names = dataset.case_ids[firsts].tolist()
    if not single and dataset.places is not None:
        names = [place.volume.case_id for place in dataset.places[firsts]]
    keys = ({"case_id": c, "patient": p} for c, p in zip(names, patients, strict=True))
    return summary, [key | row for key, row in zip(keys, rows, strict=True)]


def evaluate_run(
    path: str | Path,
    data: str | None = None,
    split: str | None = None,
    num_samples: int = SCORED_SAMPLES,
    out: str | Path | None = None,
    save_masks: str | Path | None = None,
    log: Any = print,
) -> dict[str, Any]:
    """Scores the best model of a run.

    Args:
        path: the run directory, or the name of a shipped model.
        data: another source; the run's own by default.
        split: `"train"`, `"val"`, `"test"` or `"all"`; val of the run's data, all of other data.
        num_samples: S per case.
        out: folder for metrics.json and cases.csv, those of an earlier evaluation replaced.
        save_masks: new folder for the masks that each rater is predicted to draw, case by case.
        log: called with lines for people, such as what is odd in other data.

    Returns:
        The summary of `keras_proseg.evaluate`, with `split` and `source`.

    Raises:
        UsageError: a split that the data lacks, or `out` that is no folder, a run's, or one with
            other files of these names.
        ProSegError: no run, or data that does not fit it.
    """
    run = find_run(path)
    if out is not None:
        _check_place(Path(out))
    split = split or ("all" if data else "val")
    dataset = cases_of_run(run, data, split)
    if data is not None:  # the run's own were told of when it was trained
        for line in note_lines(dataset.notes):
            log(line)
        warn_of_other_intensities(run, dataset.images, data)
    model = run.load_model("best")
    if save_masks is not None:
        check_takes(model, dataset)
        write_masks(model, dataset, save_masks)
    summary, rows = evaluate(model, dataset, num_samples)
    summary |= {"split": split, "source": source_name(data or run.source)}
    if out is not None:
        write_json(Path(out) / SUMMARY, summary)  # first: by it a table is known as ours
        write_csv(Path(out) / TABLE, rows)
    return summary


def _check_place(out: Path) -> None:
    """Raises unless scores in `out` replace nothing but scores."""
    check_folder(out, "--out")
    if (out / "plan.json").is_file():
        raise UsageError(f"`--out` must be a folder that is no run. Received: {out}")
    there = [name for name in (TABLE, SUMMARY) if (out / name).exists()]
    if there and not _is_summary(out / SUMMARY):
        text = f"`--out` must be a folder without {TABLE} and {SUMMARY} of something else."
        raise UsageError(f"{text} Received: {out / there[0]}")


def _is_summary(file: Path) -> bool:
    try:
        content = read_json(file)
    except ProSegError:
        return False
    return isinstance(content, dict) and "num_samples" in content

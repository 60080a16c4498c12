"""What a run records of its data, and what it tells people before it trains."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import SIMULATED, note_lines
from keras_proseg.data.split import unlearnt_raters
from keras_proseg.runs import Run
from keras_proseg.versions import versions


def facts_of(data: str | Dataset, dataset: Dataset) -> dict[str, Any]:
    """The `data` of a run's config.json.

    Args:
        data: what the user named, or a data set from Python, which no later command can read.
        dataset: what came of it, split.
    """
    assert dataset.split is not None
    sides, counts = np.unique(dataset.split, return_counts=True)
    source = None if isinstance(data, Dataset) else data
    if source not in (None, "lidc"):
        source = str(Path(str(source)).resolve())
    return {
        "source": source,
        "images": dataset.image_kind,
        "fingerprint": dataset.fingerprint(),
        "split": dict(zip(sides.tolist(), counts.tolist(), strict=True)),
        "group_by": dataset.group_by,
        "rater_order": dataset.rater_order,
        "dropped": dataset.dropped,
        "notes": dataset.notes,
    }


def announce(dataset: Dataset, facts: dict[str, Any], log: Any) -> None:
    """Tells `log` of the cases, of what is odd in them, and of the raters."""
    if dataset.image_kind == "phantom":
        log(SIMULATED)
        log("      What this run scores is not a result on LIDC CT. --dicom DIR uses real CT.")
    sides = ", ".join(f"{count} {side}" for side, count in facts["split"].items())
    dropped = f"; {dataset.dropped} without any rater left out" if dataset.dropped else ""
    log(f"{len(dataset)} cases ({sides}), split by {dataset.group_by}{dropped}.")
    for line in note_lines(dataset.notes):
        log(line)
    log(f"Raters: {', '.join(dataset.raters)}")
    for name in ("channels", "structures"):
        if name in dataset.notes:
            log(f"{name.capitalize()}, in order: {', '.join(dataset.notes[name])}")
    for name in unlearnt_raters(dataset):
        log(f"NOTE: rater {name} has no mask in train: what is drawn as {name} is not learnt.")


def note_backend(run: Run, log: Any) -> None:
    """Tells `log` where a run goes on with another backend than the one it was begun on."""
    before, now = run.backend, versions()["backend"]
    if before not in (None, now):
        log(f"NOTE: trained on {before} so far, on {now} from here: the draws are others.")

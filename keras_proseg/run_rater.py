"""A run with a rater more, learnt by its best model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import NewRaterConfig
from keras_proseg.data.findings import note_lines
from keras_proseg.data.records import plain_name
from keras_proseg.files import atomic_folder, check_new_folder
from keras_proseg.intensities import warn_of_other_intensities
from keras_proseg.names import source_name
from keras_proseg.new_rater import add_rater
from keras_proseg.pretrained import card_of, find_run
from keras_proseg.run_cases import case_rows, read_cases, write_cases
from keras_proseg.run_data import cases_of_rater, check_takes, names_of
from keras_proseg.runs import Run


def add_rater_to_run(
    run: str | Path,
    data: str,
    rater: str,
    out: str | Path,
    config: NewRaterConfig | None = None,
    log: Any = print,
) -> Run:
    """`add_rater` to the best model of a run, from the masks of `rater` in `data`.

    Args:
        run: a run directory, or the name of a shipped model.
        data: any source; of data with a split, its training cases.
        rater: a rater of `data`, new to the run.
        out: the new run directory.
        config: how it is learnt.
        log: called with lines for people, such as what is odd in `data`.

    Returns:
        A run without data of its own: it samples, exports, and is evaluated on given data.

    Raises:
        UsageError: `out` is not new, or `data` knows no such rater.
        ProSegError: no run, or data that does not fit it.
    """
    check_new_folder(Path(out), "--out")
    source, rater = find_run(run), plain_name(rater)
    dataset = cases_of_rater(source, data, rater)
    for line in note_lines(dataset.notes):
        log(line)
    if dataset.split is None:
        log(f"NOTE: {data} names no split: all cases of {rater} are learnt from, patients of the")
        log("      run's val and test among them if they are there. Score it on others.")
    warn_of_other_intensities(source, dataset.images, data)
    model = source.load_model("best")
    check_takes(model, dataset)
    column = dataset.raters.index(rater)
    masks = np.asarray(dataset.masks)[:, column]
    new = add_rater(model, rater, np.asarray(dataset.images), masks, config)
    added = {"rater": rater, "cases": len(dataset), "source": source_name(data)}
    settings = replace(source.train_config(), rater_order="given")
    seen = read_cases(source)
    learnt = case_rows(replace(dataset, split=None))
    with atomic_folder(out) as folder:
        made = Run(folder)
        if seen is not None:
            write_cases(folder, seen + learnt)
        made.save_model(new, "best")
        made.write_config(new.settings, settings, _facts(source, added))
    return Run(out)


def _facts(source: Run, added: dict[str, Any]) -> dict[str, Any]:
    """What config.json says of the data: those of `source`, but that no file holds them all."""
    data = source.section("data")
    name, shipped = data.get("source"), source.path.name if card_of(source) else None
    origin = {"source": name and Path(name).name, "shipped": shipped}
    changes = {
        "source": None,
        "rater_order": "given",
        "notes": names_of(source),
        "origin": source.origin or origin | {"rater_order": source.rater_order},
        "added": [*data.get("added", []), added],
    }
    return {k: v for k, v in data.items() if k != "fingerprint"} | changes

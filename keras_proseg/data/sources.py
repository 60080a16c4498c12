"""From what the user names (`lidc`, a file, a folder) to a dataset with raters in order, split.

`reading.py` knows the kinds of sources; here is what holds for all of them.
"""

import numpy as np

from keras_proseg.config import DataConfig, TrainConfig, as_stored
from keras_proseg.data.dataset import Dataset, mask_areas, rank_by_area
from keras_proseg.data.findings import Findings
from keras_proseg.data.fit import WINDOW, at_scale
from keras_proseg.data.reading import read_source
from keras_proseg.data.split import split_dataset
from keras_proseg.data.verify import check_dataset, check_sides
from keras_proseg.errors import require


def load_dataset(source: str, config: TrainConfig | None = None) -> Dataset:
    """Loads a source, orders its raters and splits it.

    Args:
        source: `"lidc"`, or the path of a file or folder.
        config: its `split_seed` and the settings of `DataConfig` apply.

    Raises:
        UsageError: an unknown kind of source.
        DataError: what is wrong with the files, all of it at once.
    """
    config = config or TrainConfig()
    dataset = read_dataset(source, config)
    return split_dataset(dataset, config.split_seed)


def read_dataset(source: str, config: DataConfig | None = None) -> Dataset:
    """Loads a source and orders its raters; its split is its own, or None.

    Raises:
        UsageError: an unknown kind of source, or another scale than that of prepared data.
        DataError: what is wrong with the files, all of it at once.
    """
    config = config or DataConfig()
    findings = Findings(source)
    dataset = read_source(source, config, findings)
    findings.check()
    assert dataset is not None
    config = at_scale(config, dataset.notes)
    if config.window_center is not None:
        dataset.notes["window"] = {name: getattr(config, name) for name in WINDOW}
    check_dataset(dataset, findings)
    findings.check()
    dataset.notes["findings"] = [[f.file, f.what, f.remedy] for f in findings.items]
    return as_asked(dataset, config)


def as_asked(dataset: Dataset, config: DataConfig) -> Dataset:
    """`dataset` with the `slices` of `config`, and raters in its `rater_order` or the data's own.

    Raises:
        ProSegError: `slices` is `"drawn"` and nothing is.
    """
    if config.slices == "drawn":
        drawn = np.flatnonzero(mask_areas(dataset).any(axis=1))
        require(bool(len(drawn)), "masks", "of at least one slice that is drawn on", "none")
        dataset = dataset if len(drawn) == len(dataset) else dataset.take(drawn)
    order = config.rater_order or dataset.rater_order
    return rank_by_area(dataset) if order == "area" else dataset


def verify_source(source: str, config: DataConfig | None = None) -> tuple[Findings, Dataset | None]:
    """Everything that is wrong with a source, and what could be read of it.

    Raises:
        UsageError: an unknown kind of source.
    """
    config, findings = config or DataConfig(), Findings(source)
    dataset = findings.attempt("mend it and verify again", read_source, source, config, findings)
    if dataset is not None:
        config = as_stored(at_scale(config, dataset.notes))
        remedy = "choose --slices all, or look at the masks"
        dataset = findings.attempt(remedy, as_asked, dataset, config)
    if dataset is not None:
        check_dataset(dataset, findings)
        check_sides(dataset, findings)
    return findings, dataset

"""From what the user names (`lidc`, FILE.npz) to a dataset with raters in order and a split."""

from keras_proseg.config import TrainConfig, default_rater_order
from keras_proseg.data.dataset import Dataset, rank_by_area
from keras_proseg.data.split import split_dataset
from keras_proseg.errors import UsageError


def load_dataset(source: str, config: TrainConfig | None = None) -> Dataset:
    """Loads a source, orders its raters and splits it.

    Args:
        source: `"lidc"` or the path of an npz.
        config: its `rater_order`, `seed` and LIDC fields apply.

    Raises:
        UsageError: an unknown kind of source.
        ProSegError: what is wrong with the file.
    """
    config = config or TrainConfig()
    dataset = _read(source, config)
    order = config.rater_order or default_rater_order(source)
    dataset = rank_by_area(dataset) if order == "area" else dataset
    return split_dataset(dataset, config.seed)


def _read(source: str, config: TrainConfig) -> Dataset:
    if source == "lidc":
        from keras_proseg.data.lidc import load_lidc
        from keras_proseg.data.lidc_config import LidcConfig

        return load_lidc(
            LidcConfig(
                min_raters=config.min_raters,
                images=config.images,
                dicom=config.dicom,
                limit=config.limit,
            )
        )
    if source.endswith(".npz"):
        from keras_proseg.data.npz import load_npz

        return load_npz(source)
    raise UsageError(f"Data must be `lidc` or a .npz file. Received: {source}")

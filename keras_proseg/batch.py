"""The batch of a step, as `fit` and `evaluate` of a `ProSeg` are given it."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_proseg.data.dataset import COLUMNS
from keras_proseg.errors import UsageError, require

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg


def batch_of(model: "ProSeg", data: Any) -> dict[str, Any]:
    """`image` (B, H, W, C), `masks` (B, R, H, W, K) and `annotated` (B, R), of checked shapes.

    Args:
        model: knows R, C and K.
        data: what Keras hands to a step: a dict; without `annotated`, all raters are.

    Raises:
        UsageError: targets or weights of samples, which a bound has none of.
        ProSegError: a column is missing or of another shape.
    """
    batch, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if targets is not None or weights is not None:
        text = f"Batches must be {{{', '.join(COLUMNS)}}} and nothing beside them."
        raise UsageError(f"{text} Received: targets or weights")
    named = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
    good = isinstance(batch, dict) and set(COLUMNS[:2]) <= set(batch)
    require(good, "A batch", f"a dict of {', '.join(COLUMNS)}", named)
    channels, classes = model.settings.image_channels, model.settings.num_classes
    _check_shape(batch, "image", (None, None, None, channels), "(B, H, W, C)")
    height, width = batch["image"].shape[1:3]
    wanted = (None, len(model.raters), height, width, classes)
    _check_shape(batch, "masks", wanted, "(B, R, H, W, K)")
    if "annotated" not in batch:
        batch = batch | {"annotated": ops.ones(ops.shape(batch["masks"])[:2], "bool")}
    _check_shape(batch, "annotated", (None, len(model.raters)), "(B, R)")
    return {name: batch[name] for name in COLUMNS}


def _check_shape(batch: dict[str, Any], name: str, wanted: tuple[Any, ...], axes: str) -> None:
    # Of a tf.data pipeline that reads in Python and does not say.
    known = getattr(batch[name].shape, "rank", 0) is not None
    require(known, name, "of known axes (`set_shape`)", "an unknown shape")
    shape = tuple(batch[name].shape)
    pairs = zip(shape, wanted, strict=False)
    fits = len(shape) == len(wanted) and all(n is None or w is None or n == w for n, w in pairs)
    shown = ", ".join("any" if size is None else str(size) for size in wanted)
    require(fits, name, f"{axes} = ({shown})", f"shape {shape}")

"""A new rater learnt from a few of their masks: only q(tau|r) is fitted, the network stays."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_proseg.config import (
    ModelConfig,
    NewRaterConfig,
    TrainConfig,
    to_dict,
    with_settings,
)
from keras_proseg.data.dataset import Dataset
from keras_proseg.errors import UsageError, require
from keras_proseg.progress import counting_bar
from keras_proseg.run_data import check_takes

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

SHARED = ("scaling", "backbone", "ambiguity", "mask_decoder", "image_decoder")
SELDOM = -20.0  # below the least bias of p(r|tau), which is not fitted: it never names them


def add_rater(
    model: Any,
    rater: str,
    images: Any,
    masks: Any,
    config: NewRaterConfig | None = None,
    **settings: Any,
) -> "ProSeg":
    """A model that draws as a new rater, too, learnt from a few of their masks.

    All networks stay as they are, and so do the other raters: what is learnt lies between the
    manners that the network knows. Seeds draw other samples of the others, from the same
    distributions. p(r|tau) is not fitted: with `diverse="prior"` nobody draws as
    the new rater.

    Args:
        model: a trained `ProSeg` whose raters share q(z|x).
        rater: name of the new rater.
        images: (N, H, W, C), raw intensities.
        masks: (N, H, W) or (N, H, W, K), 0/1: what the rater outlined on each.
        config: how it is learnt.
        **settings: fields of `NewRaterConfig` by name.

    Returns:
        A new `ProSeg` of R + 1 raters, the new one last, compiled for nothing yet.

    Raises:
        UsageError: an unknown setting, the name is taken, or z is drawn for each rater
            (`ambiguity_per_rater`).
        ProSegError: images or masks of another shape or kind than the model takes.

    Example:

    ```python
    model = keras_proseg.add_rater(keras_proseg.load("lidc"), "me", images, masks)
    model.sample(image, rater="me")
    ```
    """
    config = with_settings(config or NewRaterConfig(), settings)
    _check_name(model, rater)
    images, masks = np.asarray(images), np.asarray(masks)
    wanted = f"(N, H, W) or (N, H, W, K), of the images' N, H, W = {images.shape[:3]}"
    good = masks.ndim in (3, 4) and masks.shape[:3] == images.shape[:3]
    require(good, "masks", wanted, masks.shape)
    dataset = Dataset.from_arrays(images, masks[:, None], raters=[rater])
    check_takes(model, dataset)
    if model.known_intensities is not None:
        model.known_intensities.warn_of(dataset.images, "`images`", 3)
    fitted = _fitted(model, dataset, config)
    return _joined(model, rater, fitted)


def _check_name(model: Any, rater: str) -> None:
    if not isinstance(rater, str) or not rater or rater in model.raters:
        known = ", ".join(model.raters)
        raise UsageError(f"`rater` must be a name beside {known}. Received: {rater!r}")
    if model.settings.ambiguity_per_rater:
        text = "`ambiguity_per_rater` must be false: a new rater would need a map of z."
        raise UsageError(f"{text} Received: true")


def _fitted(model: Any, dataset: Dataset, config: NewRaterConfig) -> np.ndarray:
    """The raw concentrations (1, T) of the dataset's only rater under the model's networks."""
    import keras

    from keras_proseg.data.pipeline import BatchReader, training_batches

    alone = _alone(model, dataset.raters, config.seed)
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    alone.compile(keras.optimizers.Adam(rate))
    train = TrainConfig(
        batch_size=config.batch_size, seed=config.seed, rotation="quarter", zoom=0.0
    )
    mirrored = model.settings.views > 1
    augmented = mirrored if config.augment is None else config.augment
    batches = training_batches(BatchReader(dataset, train), 0, augmented)
    with counting_bar(config.steps, 0, "Learning the rater") as advance:
        bar = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: advance())
        options = {"steps_per_epoch": config.steps, "shuffle": False, "verbose": 0}
        alone.fit(batches, callbacks=[bar], **options)
    return keras.ops.convert_to_numpy(alone.preference.concentration)


def _alone(model: Any, raters: tuple[str, ...], seed: int) -> Any:
    """The model's networks, frozen, for one rater who starts in the middle of all others."""
    from keras import ops

    only = {"rater_weight": 0.0, "image_weight": 0.0, "image_decoder": "none"}
    alone = _with_raters(model, raters, seed, **only)
    start = ops.mean(model.preference.concentration, axis=0, keepdims=True)
    alone.preference.concentration.assign(start)
    for name in ("backbone", "classifier", "ambiguity", "mask_decoder"):
        getattr(alone, name).trainable = False
    return alone


def _joined(model: Any, rater: str, concentration: np.ndarray) -> Any:
    """`model` with one rater more, of raw concentrations (1, T)."""
    new = _with_raters(model, (*model.raters, rater), model.seed)
    old = model.preference.get_weights()[0]
    new.preference.set_weights([np.concatenate([old, concentration])])
    *hidden, kernel, bias = model.classifier.get_weights()
    kernel = np.pad(kernel, ((0, 0), (0, 1)))
    new.classifier.set_weights([*hidden, kernel, np.append(bias, bias.min() + SELDOM)])
    new.steps_seen.assign(model.steps_seen)
    new.known_intensities = model.known_intensities
    return new


def _with_raters(model: Any, raters: tuple[str, ...], seed: int, **changes: Any) -> Any:
    """A model of other raters with the networks that all raters share."""
    from keras_proseg.model import ProSeg

    settings = to_dict(model.settings) | {"preference_size": model.settings.tau_size}
    config = ModelConfig(**(settings | {"raters": raters} | changes))
    new = ProSeg(config=config, seed=seed, load_encoder=False)
    for name in SHARED:
        theirs, ours = getattr(model, name), getattr(new, name)
        if theirs is not None and ours is not None:
            ours.set_weights(theirs.get_weights())
    return new

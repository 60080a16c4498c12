"""What a trained model answers: samples, a rater's mean, uncertainty. Methods of `ProSeg`.

An image's answer never depends on what else is in its batch: draws are shared by the batch.
They take turns at the image and its mirrored views (`views` of the settings).
"""

import math
import numbers
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_proseg.config import NUM_SAMPLES, check_whole
from keras_proseg.data.arrays import check_images
from keras_proseg.errors import UsageError, require
from keras_proseg.sampling.drawing import law_of_total_variance
from keras_proseg.sampling.latents import FIXED_SEED, MOST_SAMPLE_SEED
from keras_proseg.sampling.passes import check_batch, decode_draws
from keras_proseg.sampling.preferences import Rater, draw_preferences

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

_NEXT = threading.Lock()


def sample(
    model: "ProSeg",
    image: Any,
    rater: Rater | Sequence[Rater] | None = None,
    num_samples: int = NUM_SAMPLES,
    seed: int | None = None,
    ambiguity_scale: float = 1.0,
) -> np.ndarray:
    """Draws segmentations.

    Args:
        image: (H, W, C) or (B, H, W, C), raw intensities.
        rater: 0-based index or name, or B of them; None draws raters too.
        num_samples: S. They take turns at the model's `views`, so that fewer of them than views
            leave some out.
        seed: equal seeds give equal samples; None goes on from the model's own state. Below 2**42.
        ambiguity_scale: factor on the noise of z, beside the model's own
            `ambiguity_temperature`; 0 holds z at its mean.

    Returns:
        Probabilities, float32: (S, H, W, K) for one image, (B, S, H, W, K) for a batch.

    Raises:
        ProSegError: an image of a wrong shape or not finite.
        UsageError: an unknown rater, `num_samples` below 1, `seed` out of range, or a scale that
            is not finite.
    """
    images, single = _as_batch(model, image)
    check_whole("num_samples", num_samples, 1)
    if seed is not None:
        check_whole("seed", seed, 0)
        if seed > MOST_SAMPLE_SEED:
            raise UsageError(f"`seed` must be at most {MOST_SAMPLE_SEED}. Received: {seed}")
    _check_scale(ambiguity_scale)
    seed = _next_seed(model) if seed is None else int(seed)
    rater_ids, tau = draw_preferences(model, rater, len(images), num_samples, seed)
    samples = decode_draws(model, images, rater_ids, tau, seed, ambiguity_scale)
    return samples[0] if single else samples


def predict_rater(
    model: "ProSeg", image: Any, rater: Rater | Sequence[Rater], ambiguity_scale: float = 1.0
) -> np.ndarray:
    """E[p | r]: the mean of a rater's probabilities over `mean_samples` draws of tau and z.

    The same draws for every image, z in pairs of opposite noise.

    Args:
        image: (H, W, C) or (B, H, W, C), raw intensities.
        rater: 0-based index or name, or B of them.
        ambiguity_scale: factor on the noise of z.

    Returns:
        (H, W, K) or (B, H, W, K) float32.

    Raises:
        ProSegError: an image of a wrong shape or not finite.
        UsageError: an unknown rater, or none; a scale that is not finite.
    """
    if rater is None:
        raise UsageError(f"`rater` must be one of {', '.join(model.raters)}. Received: None")
    _check_scale(ambiguity_scale)
    images, single = _as_batch(model, image)
    draws = model.settings.mean_samples
    ids, tau = draw_preferences(model, rater, len(images), draws, FIXED_SEED)
    samples = decode_draws(model, images, ids, tau, FIXED_SEED, ambiguity_scale, in_pairs=True)
    mean = samples.mean(axis=1)
    return mean[0] if single else mean


def uncertainty(model: "ProSeg", image: Any) -> dict[str, np.ndarray]:
    """Splits the variance of the probabilities, raters uniform.

    Args:
        image: (H, W, C) or (B, H, W, C), raw intensities.

    Returns:
        Maps (H, W, K) or (B, H, W, K): `between_rater` = Var_r E[p|r], `boundary` =
        E_r Var[p|r], `total` = their sum, and `mean` = E[p]. They are estimates from the
        `mean_samples` draws per rater of `predict_rater`; as these are the same for every image,
        the variances of all images are off alike, by about a tenth at 8 draws.

    Raises:
        ProSegError: an image of a wrong shape or not finite.
    """
    images, single = _as_batch(model, image)
    maps = law_of_total_variance(*model.rater_moments(images))
    arrays = {name: ops.convert_to_numpy(value) for name, value in maps.items()}
    return {name: value[0] if single else value for name, value in arrays.items()}


def predict(model: "ProSeg", x: Any, *arguments: Any, **options: Any) -> np.ndarray:
    """Keras' own `predict`: the mean probability over raters, (B, H, W, K).

    Args:
        x: images (B, H, W, C), raw, or what Keras takes of batches {image, ...}. Arrays are
            checked, and their intensities warned of, as `sample` does.
        *arguments: of Keras' `predict`.
        **options: of Keras' `predict`.

    Raises:
        ProSegError: images of a wrong shape or not finite.
    """
    image: Any = x.get("image") if isinstance(x, dict) else x
    if hasattr(image, "ndim"):
        check_batch(model, image)
        _as_batch(model, image)
    return keras.Model.predict(model, x, *arguments, **options)


def _check_scale(scale: Any) -> None:
    if not isinstance(scale, numbers.Real) or not math.isfinite(scale):
        raise UsageError(f"`ambiguity_scale` must be finite. Received: {scale!r}")


def _as_batch(model: "ProSeg", image: Any) -> tuple[np.ndarray, bool]:
    """The image or images (B, H, W, C), and whether it was a single one."""
    array = _as_array(image)
    channels = model.settings.image_channels
    good = array.ndim in (3, 4) and array.shape[-1] == channels
    wanted = f"(H, W, {channels}) or (B, H, W, {channels})"
    require(good, "image", wanted, f"shape {array.shape}")
    images = check_images(array[None] if array.ndim == 3 else array)
    if model.known_intensities is not None:
        model.known_intensities.warn_of(images, "`image`", 4)
    return images, array.ndim == 3


def _as_array(image: Any) -> np.ndarray:
    """Whatever NumPy takes, and tensors that it does not: of a GPU, with gradients, in bfloat16."""
    if not ops.is_tensor(image):
        return np.asarray(image)
    half = keras.backend.standardize_dtype(image.dtype) == "bfloat16"
    return ops.convert_to_numpy(ops.cast(image, "float32") if half else image)


def _next_seed(model: "ProSeg") -> int:
    with _NEXT:  # two threads would be given one seed
        words = ops.convert_to_numpy(model.seed_generator.next())
    state = [int(word) % 2**32 for word in words]
    return int(np.random.SeedSequence(state).generate_state(1)[0] // 2)

"""Draws for many images in passes of bounded memory; an image's draws depend on itself alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_proseg.errors import require
from keras_proseg.sampling import drawing
from keras_proseg.sampling.latents import TAU, Z, draw_tau, key_of

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

CHUNK_VALUES = 2**23  # values of the widest tensor of a decoding pass: 32 MB, near a cache's size


def check_batch(model: "ProSeg", images: Any) -> None:
    """Raises unless `images` are (B, H, W, C) of the model's channels, as far as they say.

    Else one channel would be taken for several.

    Raises:
        ProSegError: they are not.
    """
    shape, channels = tuple(images.shape), model.settings.image_channels
    good = len(shape) == 4 and shape[3] in (None, channels)  # a tf.data may not say it
    require(good, "image", f"(B, H, W, {channels})", shape)


def decode_draws(
    model: "ProSeg",
    images: np.ndarray,
    rater_ids: np.ndarray,
    tau: Any,
    seed: int,
    scale: float,
    in_pairs: bool = False,
) -> np.ndarray:
    """Probabilities (B, S, H, W, K), by `drawing.draw_encoded`.

    Args:
        model: a `ProSeg`.
        images: (B, H, W, C).
        rater_ids: (B or 1, S).
        tau: (1, S, T), or None to draw it from q(tau|r).
        seed: of tau and z.
        scale: factor on the noise of z.
        in_pairs: `paired` noise instead of independent draws.
    """
    num, (height, width) = rater_ids.shape[1], images.shape[1:3]
    shape = (len(images), num, height, width, model.settings.num_classes)
    shared, views = len(rater_ids) == 1, model.settings.views_of(num)
    step = images_per_pass(model, images, num) if shared else 1
    draws = _draws_per_pass(model, images, num, in_pairs)
    scale = ops.convert_to_tensor(scale, "float32")
    samples = np.empty(0, np.float32)
    for b in range(0, len(images), step):
        some = ops.convert_to_tensor(images[b : b + step], "float32")
        ids = ops.convert_to_tensor(rater_ids[0 if shared else b])
        parts = _parts(model, some, ids, tau, seed, scale, views, draws, in_pairs)
        for k, part in enumerate(parts):
            answer = ops.convert_to_numpy(part)
            if answer.shape == shape:  # all in one pass: nothing to join
                return np.require(answer, requirements="W")
            # Not before it is needed: a free block of this size costs milliseconds.
            samples = samples if samples.size else np.empty(shape, np.float32)
            samples[b : b + step, k * draws : (k + 1) * draws] = answer
    return samples


def rater_moments(model: "ProSeg", images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each rater's probabilities, over `mean_samples` draws of tau and z.

    In bounded memory.

    Args:
        images: (B, H, W, C), raw intensities.

    Returns:
        Two arrays (B, R, H, W, K), float32.

    Raises:
        ProSegError: images of another shape.
    """
    check_batch(model, images)
    step = images_per_pass(model, images, model.settings.mean_samples)
    moments = model.graphs.of(drawing.rater_moments)
    parts = [
        [ops.convert_to_numpy(m) for m in moments(ops.convert_to_tensor(some, "float32"))]
        for some in (images[k : k + step] for k in range(0, len(images), step))
    ]
    means, variances = zip(*parts, strict=True)
    return np.concatenate(means), np.concatenate(variances)


def _parts(
    model: "ProSeg", images: Any, ids: Any, tau: Any, seed: int, scale: Any,
    views: int, draws: int, in_pairs: bool,
) -> Iterator[Any]:  # fmt: skip
    """The samples of raters `ids` (S,), `draws` of them at a time."""
    if tau is None and draws >= ids.shape[0]:
        at_once = model.graphs.of(drawing.draw, views=views, in_pairs=in_pairs)
        yield at_once(images, ids, key_of(seed, TAU), key_of(seed, Z), scale)
        return
    if tau is None:
        tau = model.graphs.of(draw_tau)(ids[None], key_of(seed, TAU))
    encoded = model.graphs.of(drawing.encode_views, views=views)(images)
    draw = model.graphs.of(drawing.draw_encoded, in_pairs=in_pairs)
    for s in range(0, ids.shape[0], draws):
        part = slice(s, s + draws)
        # A chunk of draws has noise of its own: part of the key, so never used twice.
        yield draw(images, encoded, ids[part], tau[:, part], key_of(seed, Z + s), scale)


def values_per_draw(model: "ProSeg", pixels: Any) -> Any:
    """Values of the decoder's widest tensor for one draw of an image of so many pixels."""
    return pixels * model.mask_decoder.width // model.backbone.finest**2


def images_per_pass(model: "ProSeg", images: np.ndarray, num: int) -> int:
    """How many of `images` go through the decoder at once, with `num` draws of each."""
    return max(1, CHUNK_VALUES // (num * _per_draw(model, images)))


def _draws_per_pass(model: "ProSeg", images: np.ndarray, num: int, in_pairs: bool) -> int:
    if in_pairs:  # which must not fall apart; they are few
        return num
    views = model.settings.views_of(num)
    return max(1, CHUNK_VALUES // _per_draw(model, images) // views) * views


def _per_draw(model: "ProSeg", images: np.ndarray) -> int:
    return max(1, values_per_draw(model, images.shape[1] * images.shape[2]))

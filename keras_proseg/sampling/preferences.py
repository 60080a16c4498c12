"""Whose draws they are: raters by name or index, and raters and tau of S draws."""

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_proseg.errors import UsageError
from keras_proseg.sampling.latents import TAU, key_of

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

Rater = int | str  # 0-based index or name


def rater_index(model: "ProSeg", rater: Rater) -> int:
    """The index of a rater given by name or index, which may be text: a name goes first.

    Raises:
        UsageError: no such rater.
    """
    if isinstance(rater, str) and rater in model.raters:
        return model.raters.index(rater)
    index = _whole(rater)
    # Of raters called 01, 02 ... a typed 1 is not the second.
    named = isinstance(rater, str) and index is not None and index in map(_whole, model.raters)
    if index is not None and 0 <= index < len(model.raters) and not named:
        return index
    known = f"one of {', '.join(model.raters)}"
    known += "" if named else f" or 0 to {len(model.raters) - 1}"
    received = repr(rater) if index is None else rater
    raise UsageError(f"`rater` must be {known}. Received: {received}")


def _whole(rater: Any) -> int | None:
    """The whole number that `rater` is, as text, an array or a tensor, too; None of others."""
    try:
        if isinstance(rater, str):
            return int(rater) if rater.isascii() and rater.isdecimal() else None
        return None if isinstance(rater, bool) else operator.index(rater)
    except (TypeError, ValueError):  # the latter of thousands of digits, too
        return None


def draw_preferences(
    model: "ProSeg", rater: Any, batch: int, num: int, seed: int
) -> tuple[np.ndarray, Any]:
    """Rater indices (B or 1, S), and tau (1, S, T) where it is not of q(tau|r).

    Args:
        model: a `ProSeg`.
        rater: one of all images, or one of each of `batch`; None draws raters too.
        batch: B.
        num: S.
        seed: of what is drawn.

    Raises:
        UsageError: an unknown rater, or not one for each image.
    """
    if rater is None and model.settings.diverse == "prior":
        return _from_prior(model, num, seed)
    if rater is None:
        return _everyone_in_turn(len(model.raters), num, seed), None
    if isinstance(rater, str) or np.ndim(rater) == 0:
        return np.full((1, num), model.rater_index(rater)), None
    if len(rater) != batch:
        raise UsageError(f"`rater` must name {batch} raters. Received: {len(rater)}")
    return np.repeat([[model.rater_index(r)] for r in rater], num, axis=1), None


def _everyone_in_turn(num_raters: int, num: int, seed: int) -> np.ndarray:
    """Every rater as often as any other (to one), in random order: uniform, less noisy."""
    order = np.random.default_rng(seed).permutation(num_raters)
    turns = np.random.default_rng(seed + 1).permutation(num)
    return order[turns % num_raters][None]


def _from_prior(model: "ProSeg", num: int, seed: int) -> tuple[np.ndarray, Any]:
    """tau from p(tau), whose rater p(r|tau) names."""
    tau = model.preference.p_tau().sample(num, key_of(seed, TAU))
    logits = np.asarray(ops.convert_to_numpy(model.classifier(tau)))
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return np.argmax(logits + noise, axis=-1)[None], tau[None]

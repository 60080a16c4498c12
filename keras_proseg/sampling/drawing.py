"""Draws of masks as tensors: what `sampling` compiles and exports hold.

`model` is a `ProSeg`. Draws of one seed are shared by all images of a batch.
"""

from typing import TYPE_CHECKING, Any

from keras import ops

from keras_proseg.layers.grids import pick
from keras_proseg.sampling.latents import (
    draw_tau,
    fixed_noise,
    fixed_tau,
    grid_of,
    noise_of_z,
    paired,
)
from keras_proseg.sampling.views import among_views, mirrored

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg


def draw(
    model: "ProSeg",
    image: Any,
    rater_ids: Any,
    tau_key: Any,
    z_key: Any,
    ambiguity_scale: Any,
    views: int,
    in_pairs: bool,
) -> Any:
    """`draw_encoded` of the raw image and tau of the raters (S,).

    One graph, which works on the views and the draws of tau and z beside each other.
    """
    tau = draw_tau(model, rater_ids[None], tau_key)
    encoded = encode_views(model, image, views)
    return draw_encoded(model, image, encoded, rater_ids, tau, z_key, ambiguity_scale, in_pairs)


def draw_encoded(
    model: "ProSeg",
    image: Any,
    encoded: Any,
    rater_ids: Any,
    tau: Any,
    key: Any,
    ambiguity_scale: Any,
    in_pairs: bool = False,
) -> Any:
    """`drawn` of raters (S,) and tau (1, S, T), with noise of z seeded by `key`.

    Args:
        ambiguity_scale: factor on that noise.
        in_pairs: `paired` noise, to average over, instead of independent draws.
    """
    noise = noise_of_z(model, ops.shape(rater_ids)[0], grid_of(encoded), key)
    noise = (paired(noise) if in_pairs else noise) * ambiguity_scale
    return drawn(model, image, encoded, rater_ids[None], tau, noise[None])


def drawn(model: "ProSeg", image: Any, encoded: Any, rater_ids: Any, tau: Any, noise: Any) -> Any:
    """Probabilities (B, S, H, W, K) of draws that take turns at an image's views.

    Args:
        model: a `ProSeg`.
        image: (B, H, W, C), for its size.
        encoded: features and heads of each view, as `encode_views` gives them; S views at most.
        rater_ids: (B or 1, S) raters of the draws, which only q(z|x,r) asks for.
        tau: (B or 1, S, T).
        noise: standard normal, (B or 1, S, h, w, D).
    """

    def of_view(view: int, rows: Any) -> Any:
        features, heads = encoded[view]
        if model.settings.ambiguity_per_rater:
            heads = _of_raters(heads, ops.take(rater_ids, rows, axis=1))
        own_noise, own_tau = ops.take(noise, rows, axis=1), ops.take(tau, rows, axis=1)
        return probability(model, image, features, heads, own_noise, own_tau)

    return among_views(ops.shape(tau)[1], len(encoded), of_view)


def probability(
    model: "ProSeg", image: Any, features: Any, heads: Any, noise: Any, tau: Any
) -> Any:
    """Probabilities (B, M, H, W, K) of M draws of z by standard normal noise, and of tau."""
    z = model.ambiguity.answering_z(heads).sample(noise)
    return ops.sigmoid(model.decode(image, features, z, tau))


def encode_views(model: "ProSeg", image: Any, views: int) -> list[Any]:
    """What `ProSeg.encode` gives of the raw image (B, H, W, C), for each of its views."""
    image = ops.cast(image, "float32")
    encode = model.graphs.within(type(model).encode)
    return [encode(mirrored(image, view)) for view in range(views)]


def rater_moments(model: "ProSeg", image: Any) -> tuple[Any, Any]:
    """`moments_of` the raw image (B, H, W, C) over `mean_samples` fixed draws of tau and z."""
    encoded = encode_views(model, image, model.settings.views_of(model.settings.mean_samples))
    noise = fixed_noise(model, grid_of(encoded))
    return moments_of(model, image, encoded, fixed_tau(model), noise)


def moments_of(model: "ProSeg", image: Any, encoded: Any, tau: Any, noise: Any) -> tuple[Any, Any]:
    """Mean and variance of each rater's probabilities, both (B, R, H, W, K).

    Args:
        model: a `ProSeg`.
        image: (B, H, W, C), for its size.
        encoded: features and heads of each view.
        tau: (M, R, T), M draws for every rater.
        noise: of z, (M, h, w, D), which the raters share.
    """
    moments = []
    for rater in range(len(model.raters)):
        ids = ops.full((1, tau.shape[0]), rater, dtype="int32")
        draws = drawn(model, image, encoded, ids, tau[None, :, rater], noise[None])
        moments.append((ops.mean(draws, axis=1), ops.var(draws, axis=1)))
    means, variances = zip(*moments, strict=True)
    return ops.stack(means, axis=1), ops.stack(variances, axis=1)


def law_of_total_variance(mean: Any, variance: Any) -> dict[str, Any]:
    """Splits the variance of the probabilities, raters uniform.

    Args:
        mean: E[p|r], (B, R, H, W, K).
        variance: Var[p|r], (B, R, H, W, K).

    Returns:
        (B, H, W, K) each: `mean` = E[p], `between_rater` = Var_r E[p|r], `boundary` =
        E_r Var[p|r], and `total`, their sum.
    """
    between, boundary = ops.var(mean, axis=1), ops.mean(variance, axis=1)
    maps = {"between_rater": between, "boundary": boundary, "total": between + boundary}
    return {"mean": ops.mean(mean, axis=1), **maps}


def _of_raters(heads: Any, rater_ids: Any) -> Any:
    """Heads (B, R, ...) of raters (B or 1, S): (B, S, ...)."""
    shared = rater_ids.shape[0] == 1
    return ops.take(heads, rater_ids[0], axis=1) if shared else pick(heads, rater_ids)

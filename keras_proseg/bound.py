"""The bound's terms of a batch, over the networks of a `ProSeg`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops

from keras_proseg import objective as obj
from keras_proseg.distributions import standard_normal
from keras_proseg.layers.grids import cropped, pick

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

EVALUATION_SEED = (2512, 752)  # of the latents behind `evaluate`


class Rows(NamedTuple):
    """Rows `first` to `last` of the `total` that make one step, on all devices together."""

    first: Any
    last: Any
    total: Any

    def of(self, draw: Callable[[Any], Any]) -> Any:
        """Their part of what `draw` gives for all rows: a row's draws never tell who worked it."""
        return draw(self.total)[self.first : self.last]

    def of_normal(self, shape: Any, key: Any) -> Any:
        """Standard normals of `shape`, whose rows these are."""
        return self.of(lambda count: standard_normal((count, *shape[1:]), key))


class Part(NamedTuple):
    """Images of a batch with what their draws share; M raters are chosen for each."""

    rows: Rows
    image: Any  # (B, H, W, C)
    masks: Any  # (B, M, H, W, K)
    chosen: Any  # (B, M)
    present: Any  # (B, M)
    features: Any  # (B, h, w, F)
    q_tau: Any
    q_z: Any
    z_per_rater: bool

    def mean(self, values: Any) -> Any:
        """Of each rater's `values` (B, M) over the raters present, (B,)."""
        return obj.annotated_mean(values, self.present)

    def mean_of_maps(self, values: Any) -> Any:
        """Of each z's `values` (B, M or 1), (B,): the raters' own, or the image's, once."""
        return self.mean(values) if self.z_per_rater else values[:, 0]


def elbo_terms(model: "ProSeg", batch: dict[str, Any], training: bool = True) -> obj.ElboTerms:
    """The bound's terms of a batch, means over `draws_per_step` draws of tau and z.

    A method of `ProSeg`.

    Args:
        batch: `image` (B, H, W, C) raw, `masks` (B, R, H, W, K) in 0 to 1, `annotated` (B, R)
            bool.
        training: draw fresh latents; otherwise those of a fixed seed.
    """
    keys = _keys(model, training, 1 + 2 * model.settings.draws_per_step)
    size = ops.shape(batch["image"])[0]
    count = model.parts_of(size) if training else 1
    replica, replicas = model.replica()
    parts = []
    for k in range(count):
        first, last = k * size // count, (k + 1) * size // count
        rows = Rows(replica * size + first, replica * size + last, size * replicas)
        part = {name: column[first:last] for name, column in batch.items()}
        parts.append(_terms_of_part(model, part, rows, keys, training))
    return obj.joined(parts)


def _terms_of_part(
    model: "ProSeg", batch: dict[str, Any], rows: Rows, keys: list[Any], training: bool
) -> obj.ElboTerms:
    choice_key, *draw_keys = keys
    part = _encoded(model, batch, rows, choice_key)
    count = model.settings.draws_per_step
    draws = [
        _terms_of_draw(model, part, tau_key, z_key, training)
        for tau_key, z_key in zip(draw_keys[:count], draw_keys[count:], strict=True)
    ]
    answers = [draw.pop("answer") for draw in draws]
    means = {name: sum(draw[name] for draw in draws) / count for name in draws[0]}
    kl_z = ops.sum(part.q_z.kl(model.ambiguity.p_z()), axis=(2, 3, 4))
    return obj.ElboTerms(
        **means,
        kl_tau=part.mean(ops.take(part.q_tau.kl(model.preference.p_tau()), part.chosen)),
        kl_z=part.mean_of_maps(kl_z),
        energy_score=part.mean(obj.energy_score(part.masks, answers)),
        num_pixels=ops.cast(ops.prod(ops.shape(part.image)[1:3]), "float32"),
        num_latents=ops.cast(ops.prod(ops.shape(part.q_z.mean())[2:]), "float32"),
    )


def _encoded(model: "ProSeg", batch: dict[str, Any], rows: Rows, key: Any) -> Part:
    image = ops.convert_to_tensor(batch["image"])
    chosen, present = _choose(model, batch["annotated"], rows, key)
    own = chosen if model.settings.ambiguity_per_rater and not _all_raters(model) else None
    features, heads = model.encode(image, own)
    masks = ops.cast(_of_chosen(model, batch["masks"], chosen), "float32")
    # Whatever fills the place of a missing mask: 0 times nan would reach the gradient.
    masks = ops.where(present[:, :, None, None, None], masks, 0.0)
    q_tau, q_z = model.preference.q_tau(), model.ambiguity.q_z(heads)
    per_rater = model.settings.ambiguity_per_rater
    return Part(rows, image, masks, chosen, present, features, q_tau, q_z, per_rater)


def _terms_of_draw(
    model: "ProSeg", part: Part, tau_key: Any, z_key: Any, training: bool
) -> dict[str, Any]:
    tau = part.rows.of(partial(part.q_tau.sample, seed=tau_key))
    tau = _of_chosen(model, tau, part.chosen)
    z = part.q_z.sample(part.rows.of_normal(ops.shape(part.q_z.mean()), z_key))
    logits = model.decode(part.image, part.features, z, tau, training)
    answer = ops.sigmoid(logits)
    dice = obj.soft_dice_loss(part.masks, answer, model.settings.dice_background)
    return {
        "answer": answer,
        "nll_mask": part.mean(_or_nan(part.masks, obj.bernoulli_nll(part.masks, logits))),
        "nll_image": part.mean_of_maps(_nll_image(model, part.image, z)),
        "nll_rater": part.mean(_nll_rater(model, tau, part.chosen)),
        "dice_loss": part.mean(dice),
    }


def _keys(model: "ProSeg", training: bool, count: int) -> list[Any]:
    if training:
        return [model.seed_generator.next() for _ in range(count)]
    first, second = EVALUATION_SEED
    return [ops.convert_to_tensor([first + k, second]) for k in range(count)]


def _choose(model: "ProSeg", annotated: Any, rows: Rows, key: Any) -> tuple[Any, Any]:
    """Rater indices (B, M) of this step and whether each is present (B, M)."""
    annotated = ops.cast(annotated, "bool")
    shape = ops.shape(annotated)
    if _all_raters(model):
        return ops.broadcast_to(ops.arange(len(model.raters)), shape), annotated
    count = model.settings.raters_per_step
    order = rows.of_normal(shape, key)
    chosen = ops.top_k(ops.where(annotated, order, -1e9), count)[1]
    return chosen, ops.take_along_axis(annotated, chosen, axis=1)


def _all_raters(model: "ProSeg") -> bool:
    count = model.settings.raters_per_step
    return count is None or count >= len(model.raters)


def _of_chosen(model: "ProSeg", values: Any, chosen: Any) -> Any:
    """values (B, R, ...) at `chosen` (B, M); no copy where all raters are chosen, in order."""
    return values if _all_raters(model) else pick(values, chosen)


def _nll_image(model: "ProSeg", image: Any, z: Any) -> Any:
    batch, maps = ops.shape(z)[:2]
    if model.image_decoder is None:
        return ops.zeros((batch, maps))
    mean = model.image_decoder(ops.reshape(z, (batch * maps, *ops.shape(z)[2:])))
    mean = ops.cast(mean, "float32")
    target = ops.repeat(model.scaling(image), maps, axis=0)
    nll = obj.gaussian_nll(target, cropped(mean, image), model.settings.image_scale)
    return ops.reshape(nll, (batch, maps))


def _or_nan(masks: Any, values: Any) -> Any:
    """`values` (B, M), not a number where a mask is not within 0 to 1: such a step is skipped."""
    axes = (2, 3, 4)
    good = (ops.min(masks, axis=axes) >= 0) & (ops.max(masks, axis=axes) <= 1)
    return ops.where(good, values, float("nan"))


def _nll_rater(model: "ProSeg", tau: Any, chosen: Any) -> Any:
    logits = ops.cast(model.classifier(tau), "float32")
    return keras.losses.sparse_categorical_crossentropy(chosen, logits, from_logits=True)

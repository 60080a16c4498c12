"""The bound's terms of a batch, over the networks of `ProSeg`. A part of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_proseg import objective as obj
from keras_proseg.distributions import standard_normal
from keras_proseg.layers.grids import cropped, pick

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


class Bound:
    """`elbo_terms` over `encode` and `decode`."""

    def elbo_terms(self: Any, batch: dict[str, Any], training: bool = True) -> obj.ElboTerms:
        """The bound's terms of a batch, means over `draws_per_step` draws of tau and z.

        Args:
            batch: `image` (B, H, W, C) raw, `masks` (B, R, H, W, K) in 0 to 1, `annotated` (B, R)
                bool.
            training: draw fresh latents; otherwise those of a fixed seed.
        """
        keys = self._keys(training, 1 + 2 * self.settings.draws_per_step)
        size = ops.shape(batch["image"])[0]
        count = self.parts_of(size) if training else 1
        replica, replicas = self.replica()
        parts = []
        for k in range(count):
            first, last = k * size // count, (k + 1) * size // count
            rows = Rows(replica * size + first, replica * size + last, size * replicas)
            part = {name: column[first:last] for name, column in batch.items()}
            parts.append(self._terms_of_part(part, rows, keys, training))
        return obj.joined(parts)

    def _terms_of_part(
        self: Any, batch: dict[str, Any], rows: Rows, keys: list[Any], training: bool
    ) -> obj.ElboTerms:
        count = self.settings.draws_per_step
        choice_key, tau_keys, z_keys = keys[0], keys[1 : 1 + count], keys[1 + count :]
        image = ops.convert_to_tensor(batch["image"])
        chosen, present = self._choose(batch["annotated"], rows, choice_key)
        own = chosen if self.settings.ambiguity_per_rater and not self._all_raters() else None
        features, heads = self.encode(image, training, own)
        masks = ops.cast(self._of_chosen(batch["masks"], chosen), "float32")
        q_tau, q_z = self.preference.q_tau(), self.ambiguity.q_z(heads)
        kl_tau = ops.take(q_tau.kl(self.preference.p_tau()), chosen)
        kl_z = ops.sum(q_z.kl(self.ambiguity.p_z()), axis=(2, 3, 4))

        def mean(values: Any) -> Any:
            return obj.annotated_mean(values + ops.zeros_like(kl_tau), present)

        parts, answers = [], []
        for tau_key, z_key in zip(tau_keys, z_keys, strict=True):
            tau = self._of_chosen(rows.of(partial(q_tau.sample, seed=tau_key)), chosen)
            z = q_z.sample(rows.of_normal(ops.shape(q_z.mean()), z_key))
            logits = self.decode(image, features, z, tau, training)
            answers.append(ops.sigmoid(logits))
            parts.append((
                mean(obj.bernoulli_nll(masks, logits)),
                mean(self._nll_image(image, z)),
                mean(self._nll_rater(tau, chosen)),
                mean(obj.soft_dice_loss(masks, answers[-1], self.settings.dice_background)),
            ))  # fmt: skip
        nll_mask, nll_image, nll_rater, dice = (
            sum(values) / count for values in zip(*parts, strict=True)
        )
        return obj.ElboTerms(
            nll_mask=nll_mask,
            nll_image=nll_image,
            nll_rater=nll_rater,
            kl_tau=mean(kl_tau),
            kl_z=mean(kl_z),
            dice_loss=dice,
            energy_score=mean(obj.energy_score(masks, answers)),
            num_pixels=ops.cast(ops.shape(image)[1] * ops.shape(image)[2], "float32"),
            num_latents=ops.cast(ops.prod(ops.shape(heads)[2:]) // 2, "float32"),
        )

    def _keys(self: Any, training: bool, count: int) -> list[Any]:
        if training:
            return [self.seed_generator.next() for _ in range(count)]
        first, second = EVALUATION_SEED
        return [ops.convert_to_tensor([first + k, second]) for k in range(count)]

    def _choose(self: Any, annotated: Any, rows: Rows, key: Any) -> tuple[Any, Any]:
        """Rater indices (B, M) of this step and whether each is present (B, M)."""
        annotated = ops.cast(annotated, "bool")
        shape = ops.shape(annotated)
        if self._all_raters():
            return ops.broadcast_to(ops.arange(len(self.raters)), shape), annotated
        count = self.settings.raters_per_step
        order = rows.of_normal(shape, key)
        chosen = ops.top_k(ops.where(annotated, order, -1e9), count)[1]
        return chosen, ops.take_along_axis(annotated, chosen, axis=1)

    def _all_raters(self: Any) -> bool:
        count = self.settings.raters_per_step
        return count is None or count >= len(self.raters)

    def _of_chosen(self: Any, values: Any, chosen: Any) -> Any:
        """values (B, R, ...) at `chosen` (B, M); no copy where all raters are chosen, in order."""
        return values if self._all_raters() else pick(values, chosen)

    def _nll_image(self: Any, image: Any, z: Any) -> Any:
        batch, maps = ops.shape(z)[:2]
        if self.image_decoder is None:
            return ops.zeros((batch, maps))
        mean = self.image_decoder(ops.reshape(z, (batch * maps, *ops.shape(z)[2:])))
        mean = ops.cast(mean, "float32")
        target = ops.repeat(self.scaling(image), maps, axis=0)
        nll = obj.gaussian_nll(target, cropped(mean, image), self.settings.image_scale)
        return ops.reshape(nll, (batch, maps))

    def _nll_rater(self: Any, tau: Any, chosen: Any) -> Any:
        logits = ops.cast(self.classifier(tau), "float32")
        return keras.losses.sparse_categorical_crossentropy(chosen, logits, from_logits=True)

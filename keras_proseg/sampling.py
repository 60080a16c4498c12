"""What a trained model answers: samples, a rater's mean, uncertainty. A part of `ProSeg`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_proseg.data.dataset import require
from keras_proseg.data.verify import check_images
from keras_proseg.drawing import FIXED_SEED, Drawing, key_of
from keras_proseg.errors import UsageError
from keras_proseg.passes import decode_draws, images_per_pass
from keras_proseg.trainers import compiled


class Sampling(Drawing):
    """`sample`, `predict_rater` and `uncertainty` over `encode` and `decode`.

    An image's answer never depends on what else is in its batch: draws are shared by the batch.
    They take turns at the image and its mirrored views (`views` of the settings).
    """

    def sample(
        self: Any,
        image: Any,
        rater: int | str | Sequence[int | str] | None = None,
        num_samples: int = 16,
        seed: int | None = None,
        ambiguity_scale: float = 1.0,
    ) -> np.ndarray:
        """Draws segmentations.

        Args:
            image: (H, W, C) or (B, H, W, C), raw intensities.
            rater: 0-based index or name, or B of them; None draws raters too.
            num_samples: S.
            seed: equal seeds give equal samples; None goes on from the model's own state.
            ambiguity_scale: factor on the noise of z, beside the model's own
                `ambiguity_temperature`; 0 holds z at its mean.

        Returns:
            Probabilities, float32: (S, H, W, K) for one image, (B, S, H, W, K) for a batch.

        Raises:
            ProSegError: an image of a wrong shape or not finite.
            UsageError: an unknown rater, `num_samples` below 1, `seed` below 0.
        """
        images, single = self._as_batch(image)
        if num_samples < 1:
            raise UsageError(f"`num_samples` must be at least 1. Received: {num_samples}")
        if seed is not None and seed < 0:
            raise UsageError(f"`seed` must be at least 0. Received: {seed}")
        seed = int(self._next_seed()) if seed is None else int(seed)
        rater_ids, tau = self._draw_preferences(rater, len(images), num_samples, seed)
        samples = decode_draws(self, images, rater_ids, tau, seed, ambiguity_scale)
        return samples[0] if single else samples

    def predict_rater(
        self: Any, image: Any, rater: Any, ambiguity_scale: float = 1.0
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
            UsageError: an unknown rater, or none.
        """
        if rater is None:
            raise UsageError(f"`rater` must be one of {', '.join(self.raters)}. Received: None")
        images, single = self._as_batch(image)
        draws = self.settings.mean_samples
        ids, tau = self._draw_preferences(rater, len(images), draws, FIXED_SEED)
        samples = decode_draws(self, images, ids, tau, FIXED_SEED, ambiguity_scale, in_pairs=True)
        mean = samples.mean(axis=1)
        return mean[0] if single else mean

    def uncertainty(self: Any, image: Any) -> dict[str, np.ndarray]:
        """Splits the variance of the probabilities, raters uniform.

        Args:
            image: (H, W, C) or (B, H, W, C), raw intensities.

        Returns:
            Maps (H, W, K) or (B, H, W, K): `between_rater` = Var_r E[p|r], `boundary` =
            E_r Var[p|r], `total` = their sum, and `mean` = E[p].

        Raises:
            ProSegError: an image of a wrong shape or not finite.
        """
        images, single = self._as_batch(image)
        mean, variance = self.moments_in_chunks(images)
        maps = {"between_rater": mean.var(axis=1), "boundary": variance.mean(axis=1)}
        maps["total"] = maps["between_rater"] + maps["boundary"]
        maps["mean"] = mean.mean(axis=1)
        return {name: value[0] if single else value for name, value in maps.items()}

    def moments_in_chunks(self: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`rater_moments` of a NumPy batch (B, H, W, C), in bounded memory."""
        step = images_per_pass(self, images, self.settings.mean_samples)
        parts = [
            self.as_graph("rater_moments")(ops.convert_to_tensor(images[k : k + step], "float32"))
            for k in range(0, len(images), step)
        ]
        both = [np.concatenate([ops.convert_to_numpy(p[k]) for p in parts]) for k in (0, 1)]
        return both[0], both[1]

    def rater_index(self: Any, rater: int | str) -> int:
        """The index of a rater given by name or index, which may be text: a name goes first.

        Raises:
            UsageError: no such rater.
        """
        if isinstance(rater, str) and rater in self.raters:
            return self.raters.index(rater)
        if isinstance(rater, str) and rater.isascii() and rater.isdecimal():
            rater = int(rater)
        whole = isinstance(rater, (int, np.integer)) and not isinstance(rater, bool)
        if whole and 0 <= int(rater) < len(self.raters):
            return int(rater)
        known = f"one of {', '.join(self.raters)} or 0 to {len(self.raters) - 1}"
        raise UsageError(f"`rater` must be {known}. Received: {rater!r}")

    def _as_batch(self: Any, image: Any) -> tuple[np.ndarray, bool]:
        array = np.asarray(image)
        channels = self.settings.image_channels
        good = array.ndim in (3, 4) and array.shape[-1] == channels
        wanted = f"(H, W, {channels}) or (B, H, W, {channels})"
        require(good, "image", wanted, f"shape {array.shape}")
        return check_images(array[None] if array.ndim == 3 else array), array.ndim == 3

    def _next_seed(self: Any) -> int:
        state = [int(word) % 2**32 for word in ops.convert_to_numpy(self.seed_generator.next())]
        return int(np.random.SeedSequence(state).generate_state(1)[0] // 2)

    def _draw_preferences(
        self: Any, rater: Any, batch: int, num: int, seed: int
    ) -> tuple[np.ndarray, Any]:
        """Rater indices (B or 1, S), and tau (1, S, T) where it is not of q(tau|r)."""
        if rater is None and self.settings.diverse == "prior":
            return self._draw_prior(num, seed)
        if rater is None:
            # Every rater as often as any other (to one), in random order: uniform, less noisy.
            order = np.random.default_rng(seed).permutation(len(self.raters))
            turns = np.random.default_rng(seed + 1).permutation(num)
            ids = order[turns % len(self.raters)][None]
        elif isinstance(rater, str) or np.ndim(rater) == 0:
            ids = np.full((1, num), self.rater_index(rater))
        else:
            if len(rater) != batch:
                raise UsageError(f"`rater` must name {batch} raters. Received: {len(rater)}")
            ids = np.repeat([[self.rater_index(r)] for r in rater], num, axis=1)
        return ids, None

    def _draw_prior(self: Any, num: int, seed: int) -> tuple[np.ndarray, Any]:
        tau = self.preference.p_tau().sample(num, key_of(seed, 0))
        logits = np.asarray(ops.convert_to_numpy(self.classifier(tau)))
        noise = np.random.default_rng(seed).gumbel(size=logits.shape)
        return np.argmax(logits + noise, axis=-1)[None], tau[None]

    def as_graph(self: Any, name: str, **fixed: Any) -> Any:
        """The method `name` with the arguments `fixed`, as a graph."""
        key = (name, *fixed.items())
        if key not in self._graphs:
            self._graphs[key] = compiled(getattr(self, name), **fixed)
        return self._graphs[key]

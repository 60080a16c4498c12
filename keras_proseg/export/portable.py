"""Graphs for formats that lack TensorFlow's random numbers: tau and noise are inputs."""

from typing import Any

import tensorflow as tf

from keras_proseg.export.answers import maps_of
from keras_proseg.sampling.drawing import drawn, moments_of
from keras_proseg.sampling.latents import fixed_noise, fixed_tau
from keras_proseg.sampling.views import mirrored


class Portable:
    """A trained model without loops or random numbers, of any size.

    Args:
        model: a `ProSeg`.
    """

    def __init__(self, model: Any) -> None:
        self.model, settings = model, model.settings
        self.mean_draws, self.z_size = settings.mean_samples, settings.ambiguity_size
        self.mean_tau = fixed_tau(model).numpy()

    def maps(self, image: Any, noise: Any) -> dict[str, Any]:
        """As `ProSeg.uncertainty`, for standard normal noise (mean_samples, h, w, D)."""
        encoded = self._encoded(image, self.mean_draws)
        tau = tf.constant(self.mean_tau)
        return maps_of(*moments_of(self.model, image, encoded, tau, noise))

    def samples(self, image: Any, tau: Any, noise: Any, rater: Any = None) -> dict[str, Any]:
        """Samples (B, S, H, W, K) for tau (B, S, T) and standard normal noise (B, S, h, w, D).

        With q(z|x,r), `rater` (B, S) says whose draws they are.
        """
        encoded = self._encoded(image, tau.shape[1])
        return {"samples": drawn(self.model, image, encoded, rater, tau, noise)}

    def _encoded(self, image: Any, draws: int | None) -> Any:
        """Features and heads of each view that the draws, of a number or free, are shared among.

        In one batch: these formats would hold a backbone of its own for each of them.
        """
        settings = self.model.settings
        views = settings.views_of(draws or settings.views)
        seen = tf.concat([mirrored(image, view) for view in range(views)], axis=0)
        return list(zip(*(tf.split(maps, views) for maps in self.model.encode(seen)), strict=True))

    def fixed_noise(self, height: int, width: int) -> Any:
        """The noise behind `ProSeg.uncertainty` at one size, (mean_samples, h, w, D)."""
        return fixed_noise(self.model, self.grid(height, width))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of z for an image's."""
        padded, stride = self.model.backbone.total_stride, self.model.settings.ambiguity_stride
        rows, columns = (-(-size // padded) * padded // stride for size in (height, width))
        return rows, columns

    def image_spec(self, size: tuple[Any, Any, Any]) -> Any:
        """Of images of `size` (B, H, W), None where it is free."""
        return tf.TensorSpec((*size, self.model.settings.image_channels), name="image")

    def sample_specs(self, batch: Any, draws: Any, grid: tuple[Any, Any]) -> list[Any]:
        """Of what `samples` takes beside the image."""
        tau = tf.TensorSpec((batch, draws, self.model.settings.tau_size), name="tau")
        noise = tf.TensorSpec((batch, draws, *grid, self.z_size), name="noise")
        rater = tf.TensorSpec((batch, draws), tf.int32, name="rater")
        return [tau, noise, *([rater] if self._per_rater else [])]

    @property
    def _per_rater(self) -> bool:
        return self.model.settings.ambiguity_per_rater

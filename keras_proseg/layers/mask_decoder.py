"""p(y|z,tau): pointwise layers over z (and image features), shaped by tau; logits smoothed."""

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_proseg.config import ModelConfig
from keras_proseg.layers.grids import smooth_blocks, unfold_blocks, upsample, upsample_onto
from keras_proseg.runtime import SAVES_PASSES


class MaskDecoder(keras.layers.Layer):
    """Mask logits from features, z and tau by 1x1 convolutions.

    The first layer is split by input, so that features are worked once per image, z once per draw,
    and tau enters as one vector: adding it is the same as concatenating a tiled tau.
    """

    def __init__(self, config: ModelConfig, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width, self.factor = config.decoder_width, factor
        self.z_factor = config.ambiguity_stride // factor
        self.width, self.film = width * factor, config.preference_mode == "film"
        penalty = keras.regularizers.L2(config.mask_l2) if config.mask_l2 else None
        dense = partial(keras.layers.Dense, kernel_regularizer=penalty)
        self.from_features: Any = None
        if config.decoder_features:
            self.from_features = dense(self.width)
        # Else `_first_of_draws` has nothing to rearrange.
        self.in_one_product = (
            self.film and config.decoder_features and self.z_factor > 1 and SAVES_PASSES
        )
        self.from_z = dense(self.width, use_bias=not config.decoder_features)
        self.from_tau = dense(self.width * (2 if self.film else 1))
        self.hidden = dense(self.width, activation="relu")
        self.out = dense(config.num_classes * factor * factor)

    def build(self, features: Any, z: Any, tau: Any) -> None:
        if self.from_features is not None:
            self.from_features.build(features)
        self.from_z.build(z)
        self.from_tau.build(tau)
        inner = (None, None, None, None, self.width)
        self.hidden.build(inner)
        self.out.build(inner)
        self.built = True

    def call(self, features: Any, z: Any, tau: Any, training: bool = False) -> Any:
        """Logits (B, M, H, W, K), with H = h * factor.

        Args:
            features: (B, h, w, F).
            z: (B, M or 1, h / z_factor, w / z_factor, D).
            tau: (B or 1, M, T).
            training: whether gradients are asked for.
        """
        of_draws = self.in_one_product and z.shape[1] != 1 and not training
        first = self._first_of_draws if of_draws else self._first
        x = ops.relu(first(features, z, tau))
        # As a matrix, where TensorFlow fuses product, bias and activation into one pass.
        flat = self.out(self.hidden(ops.reshape(x, (-1, self.width))))
        logits = ops.reshape(flat, (*ops.shape(x)[:-1], flat.shape[-1]))
        return self._to_full_size(ops.cast(logits, "float32"))

    def _first(self, features: Any, z: Any, tau: Any) -> Any:
        base = self.from_z(upsample(z, self.z_factor))
        if self.from_features is not None:
            base = base + ops.expand_dims(self.from_features(features), 1)
        code = self.from_tau(tau)[:, :, None, None, :]
        if not self.film:
            return base + code
        return base * (1.0 + code[..., : self.width]) + code[..., self.width :]

    def _first_of_draws(self, features: Any, z: Any, tau: Any) -> Any:
        """`_first` with FiLM where a draw's own z is coarse; for answers (`upsample_onto`)."""
        code = self.from_tau(tau)
        scale, shift = 1.0 + code[..., : self.width], code[..., self.width :]
        z = self.from_z(z) * scale[:, :, None, None] + shift[:, :, None, None]
        return upsample_onto(self.from_features(features), scale, z, self.z_factor)

    def _to_full_size(self, logits: Any) -> Any:
        if self.factor == 1:
            return logits
        batch, draws = ops.shape(logits)[:2]
        flat = ops.reshape(logits, (batch * draws, *ops.shape(logits)[2:]))
        flat = unfold_blocks(smooth_blocks(flat, self.factor), self.factor)
        return ops.reshape(flat, (batch, draws, *ops.shape(flat)[1:]))

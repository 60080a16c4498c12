"""`ProSeg`: p(y, r, x, tau, z) as one Keras model; no backend words.

| symbol | code | shape |
|---|---|---|
| x | `image` | (B, H, W, C) |
| r | `rater` | (B,) or (B, S) index |
| tau | `tau` | (B, M, T) |
| z | `z` | (B, M, h, w, D) |
M counts draws: raters in training, samples afterwards.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from keras_proseg.bound import elbo_terms
from keras_proseg.config import ModelConfig, model_config, of_saved, plain_seed, to_dict
from keras_proseg.fitting import Fitting
from keras_proseg.graphs import Graphs
from keras_proseg.imagenet import encoder_weights
from keras_proseg.layers import efficientnet
from keras_proseg.layers.ambiguity import BoundaryAmbiguity
from keras_proseg.layers.backbone import make_backbone
from keras_proseg.layers.grids import cropped, pad_to_multiple
from keras_proseg.layers.image_decoder import make_image_decoder
from keras_proseg.layers.intensity import IntensityScaling
from keras_proseg.layers.mask_decoder import MaskDecoder
from keras_proseg.layers.preference import RaterClassifier, RaterPreference
from keras_proseg.runtime import spread_operations
from keras_proseg.sampling import answers, drawing, passes, preferences

NETWORKS = (
    "backbone", "preference", "classifier", "ambiguity", "mask_decoder", "image_decoder",
)  # fmt: skip


@keras.saving.register_keras_serializable("keras_proseg")
class ProSeg(Fitting, keras.Model):
    """Probabilistic multi-rater segmentation (ProSeg, arXiv 2512.00748).

    Where TensorFlow has not run yet and its threads are not set, each of its operations gets one
    thread from the first model on (two to four cores): the parts of a step and the views of an
    image are worked beside each other.

    Args:
        raters: names of the R raters.
        config: a `ModelConfig` (or its dict) for everything else; its raters give way to `raters`.
        seed: of the latents drawn in training and by unseeded calls of `sample`; below 2**31.
        load_encoder: let the encoder start as `encoder_weights` says; False where all weights are
            loaded afterwards.
        **settings: fields of `ModelConfig` by name. `intensity` says how raw pixels are scaled:
            `keras_proseg.train` takes it from the data, here it is to be given.

    Example:

    ```python
    model = ProSeg(raters=["ann", "bob"], intensity={"mean": 90.0, "std": 40.0})
    model.compile()
    model.fit(dataset)                       # batches {image, masks, annotated}
    model.sample(image, rater="ann")         # (16, H, W, 1) probabilities
    ```

    Raises:
        UsageError: an unknown setting or choice.
        ProSegError: the encoder's weights are not installed.
    """

    elbo_terms = elbo_terms
    sample = answers.sample
    predict_rater = answers.predict_rater
    uncertainty = answers.uncertainty
    predict = answers.predict
    rater_moments = passes.rater_moments
    rater_index = preferences.rater_index
    known_intensities: Any = None  # `KnownIntensities` of a loaded run: answers warn of others

    def __init__(
        self,
        raters: Sequence[str] | None = None,
        config: ModelConfig | dict[str, Any] | None = None,
        seed: int = 0,
        name: str = "proseg",
        load_encoder: bool = True,
        **settings: Any,
    ) -> None:
        spread_operations()
        super().__init__(name=name, dtype="float32")
        self.settings = model_config(raters, config, settings)
        c = self.settings
        self.raters, self.seed = list(c.raters), plain_seed(seed)
        self.graphs = Graphs(self)
        num_raters = len(c.raters)
        self.scaling = IntensityScaling(c.intensity, name="scaling")
        self.backbone = make_backbone(c)
        self.preference = RaterPreference(
            num_raters, c.tau_size, c.preference_start, name="preference"
        )
        self.classifier = RaterClassifier(num_raters, name="rater_classifier")
        maps = num_raters if c.ambiguity_per_rater else 1
        self.ambiguity = BoundaryAmbiguity(
            maps, c.ambiguity_size, 2 * c.width, c.ambiguity_start_scale, c.ambiguity_temperature,
            name="ambiguity",
        )  # fmt: skip
        self.mask_decoder = MaskDecoder(c, self.backbone.finest, name="mask_decoder")
        self.image_decoder = make_image_decoder(c)
        self.make_trackers()
        # Its state is saved where it is an attribute of the model, and must not be listed twice:
        # JAX cannot give a buffer away two times.
        self._latents = SimpleNamespace(seeds=keras.random.SeedGenerator(self.seed))
        self.seed_state = self.seed_generator.state
        self.build((None, None, None, c.image_channels))
        if load_encoder and self.has_trained_encoder:
            efficientnet.load(self.backbone.stem, self.backbone.stages, encoder_weights())

    @staticmethod
    def from_pretrained(name: str) -> "ProSeg":
        """A trained model that ships with the package.

        Args:
            name: one of `keras_proseg.pretrained.names()`: `"lidc"`.

        Raises:
            UsageError: no such model.
        """
        from keras_proseg.pretrained import load_shipped

        return load_shipped(name)

    def build(self, shape: Any) -> None:
        """Builds every layer; shapes follow from the settings."""
        if getattr(self, "built", False):
            return
        c = self.settings
        self.backbone.build(shape)
        features, context = self.backbone.compute_output_shape(shape)
        tau = (None, None, c.tau_size)
        self.preference.build()
        self.classifier.build(tau)
        self.ambiguity.build(context)
        z = (None, None, None, c.ambiguity_size)
        self.mask_decoder.build(features, (None, *z), tau)
        if self.image_decoder is not None:
            self.image_decoder.build(z)
        self.make_counters()
        self.built = True

    def call(self, image: Any, training: bool = False) -> Any:
        """Mean probability over raters, (B, H, W, K), of raw `image` (B, H, W, C) or a batch."""
        image = image["image"] if isinstance(image, dict) else image
        mean, _ = drawing.rater_moments(self, image)
        return ops.mean(mean, axis=1)

    def encode(self, image: Any, chosen: Any = None) -> tuple[Any, Any]:
        """Raw image to (features, heads of q(z|x) or of `chosen` raters), of the padded image."""
        passes.check_batch(self, image)
        x = pad_to_multiple(self.scaling(image), self.backbone.total_stride)
        features, context = self.backbone(x)
        return features, self.ambiguity(context, chosen)

    def decode(self, image: Any, features: Any, z: Any, tau: Any, training: bool = False) -> Any:
        """Logits (B, M, H, W, K) at `image`'s size; `training` where gradients are asked for."""
        logits = self.mask_decoder(features, z, tau, training=training)
        return cropped(logits, image)

    @property
    def seed_generator(self) -> keras.random.SeedGenerator:
        """Of the latents drawn in training and by unseeded calls of `sample`."""
        return self._latents.seeds

    @property
    def has_trained_encoder(self) -> bool:
        """Whether the encoder starts with trained weights."""
        return self.settings.encoder_start == "imagenet"

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ProSeg":
        """A model with the settings of `get_config` and random weights, as others are to come."""
        config = config | {"config": of_saved(config["config"])}
        frozen, parts = config.pop("frozen", []), config.pop("frozen_weights", {})
        model = cls(**config, load_encoder=False)
        for name in frozen:
            getattr(model, name).trainable = False
        for name, indices in parts.items():
            for k in indices:
                getattr(model, name).weights[k].trainable = False
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles warn of other intensities as the model does."""
        return (*super().__reduce__(), {"known_intensities": self.known_intensities})

    def get_config(self) -> dict[str, Any]:
        """The settings as plain values, and which networks and weights of others are frozen."""
        networks = {name: getattr(self, name) for name in NETWORKS}
        whole = {name: n for name, n in networks.items() if getattr(n, "trainable", False)}
        frozen = [name for name, n in networks.items() if n is not None and name not in whole]
        parts = {name: _frozen(network.weights) for name, network in whole.items()}
        parts = {name: indices for name, indices in parts.items() if indices}
        settings = {"seed": self.seed, "config": to_dict(self.settings)}
        return {"name": self.name, **settings, "frozen": frozen, "frozen_weights": parts}


def _frozen(weights: list[Any]) -> list[int]:
    return [k for k, weight in enumerate(weights) if not weight.trainable]

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

from keras_proseg import objective as obj
from keras_proseg.batch import batch_of
from keras_proseg.bound import elbo_terms
from keras_proseg.config import ModelConfig, model_config, of_saved, to_dict
from keras_proseg.errors import UsageError
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
from keras_proseg.optimizers import make_optimizer
from keras_proseg.runtime import JIT_COMPILE, spread_operations
from keras_proseg.sampling import answers, drawing, passes, preferences
from keras_proseg.trainers import NonFiniteGuard, TrainStep

NETWORKS = (
    "backbone", "preference", "classifier", "ambiguity", "mask_decoder", "image_decoder",
)  # fmt: skip
TERMS = ("nll_mask", "nll_image", "nll_rater", "kl_tau", "kl_z", "dice_loss", "energy_score")


@keras.saving.register_keras_serializable("keras_proseg")
class ProSeg(TrainStep, keras.Model):
    """Probabilistic multi-rater segmentation (ProSeg, arXiv 2512.00748).

    Where TensorFlow has not run yet and its threads are not set, each of its operations gets one
    thread from the first model on (two to four cores): the parts of a step and the views of an
    image are worked beside each other.

    Args:
        raters: names of the R raters.
        config: a `ModelConfig` (or its dict) for everything else; its raters give way to `raters`.
        seed: of the latents drawn in training and by unseeded calls of `sample`.
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
    rater_moments = passes.rater_moments
    rater_index = preferences.rater_index

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
        self.raters, self.seed = list(c.raters), seed
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
        self.trackers = [keras.metrics.Mean(n) for n in ("loss", "elbo", *TERMS)]
        # Its state is saved where it is an attribute of the model, and must not be listed twice:
        # JAX cannot give a buffer away two times.
        self._latents = SimpleNamespace(seeds=keras.random.SeedGenerator(seed))
        self.seed_state = self.seed_generator.state
        self.build((None, None, None, c.image_channels))
        if load_encoder and self.has_trained_encoder:
            efficientnet.load(self.backbone.stem, self.backbone.stages, encoder_weights())

    @classmethod
    def from_pretrained(cls, name: str) -> "ProSeg":
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
        for counter in ("steps_seen", "steps_skipped", "bad_steps"):
            weight = self.add_weight(
                shape=(),
                initializer="zeros",
                dtype="int32",
                trainable=False,
                aggregation="only_first_replica",
                name=counter,
            )
            setattr(self, counter, weight)
        self.built = True

    def call(self, image: Any, training: bool = False) -> Any:
        """Mean probability over raters, (B, H, W, K), of raw `image` (B, H, W, C) or a batch."""
        image = image["image"] if isinstance(image, dict) else image
        mean, _ = drawing.rater_moments(self, image)
        return ops.mean(mean, axis=1)

    def encode(self, image: Any, training: bool = False, chosen: Any = None) -> tuple[Any, Any]:
        """Raw image to (features, heads of q(z|x) or of `chosen` raters), of the padded image."""
        x = pad_to_multiple(self.scaling(image), self.backbone.total_stride)
        features, context = self.backbone(x, training=training)
        return features, self.ambiguity(context, chosen)

    def decode(self, image: Any, features: Any, z: Any, tau: Any, training: bool = False) -> Any:
        """Logits (B, M, H, W, K) at `image`'s size; `training` where gradients are asked for."""
        logits = self.mask_decoder(features, z, tau, training=training)
        return cropped(logits, image)

    def compute_terms_and_loss(self, batch: Any, training: bool = True) -> tuple[Any, Any]:
        """`elbo_terms` and the scalar that is minimised (mean over the batch plus penalties)."""
        terms = self.elbo_terms(batch_of(self, batch), training)
        loss = ops.mean(obj.objective(terms, self.settings))
        return terms, loss + sum(self.losses)

    @property
    def seed_generator(self) -> keras.random.SeedGenerator:
        """Of the latents drawn in training and by unseeded calls of `sample`."""
        return self._latents.seeds

    @property
    def has_trained_encoder(self) -> bool:
        """Whether the encoder starts with trained weights."""
        return self.settings.encoder_start == "imagenet"

    @property
    def steps_done(self) -> int:
        """Optimiser steps so far, skipped ones too; kept in saved files."""
        return int(ops.convert_to_numpy(self.steps_seen))

    def count_step(self, good: Any) -> None:
        """Counts one step, and whether it was skipped because it was not finite."""
        bad = 1 - ops.cast(good, "int32")
        self.steps_seen.assign(self.steps_seen + 1)
        self.steps_skipped.assign(self.steps_skipped + bad)
        self.bad_steps.assign((self.bad_steps + 1) * bad)

    def record(self, terms: obj.ElboTerms, loss: Any, good: Any = True) -> dict[str, Any]:
        """Updates the trackers with one batch unless it was not finite; returns their values."""
        values = [loss, ops.mean(terms.elbo()), *(ops.mean(getattr(terms, n)) for n in TERMS)]
        # By images: the last batch of an epoch may be a short one.
        weight = ops.cast(good, "float32") * ops.cast(ops.shape(terms.kl_z)[0], "float32")
        for tracker, value in zip(self.trackers, values, strict=True):
            # 0 * nan is nan: the value itself must go.
            tracker.update_state(ops.where(good, value, 0.0), sample_weight=weight)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The trackers: nats per image, but `loss`, `dice_loss` and `energy_score` (no unit)."""
        return self.trackers

    def compile(
        self,
        optimizer: Any = None,
        *,
        jit_compile: bool = JIT_COMPILE,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Like Keras' own, without a loss: the bound is the model's own.

        Args:
            optimizer: Keras' own or by name; by default that of `TrainConfig`.
            jit_compile: as Keras has it; true by default on JAX only.
            run_eagerly: as Keras has it.
            steps_per_execution: as Keras has it.
        """
        if optimizer is None:
            optimizer = make_optimizer(trained_encoder=self.has_trained_encoder)
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )

    def fit(self, x: Any = None, *, callbacks: Any = None, **kwargs: Any) -> Any:
        """Keras' own, guarded against steps that are not finite again and again.

        Args:
            x: batches {image, masks, annotated}, as `elbo_terms` takes them.
            callbacks: Keras' own.
            **kwargs: of Keras' `fit`.

        Raises:
            UsageError: targets or weights, which a bound has none of.
            ProSegError: a batch of another shape, or steps that stay non-finite.
        """
        for name in ("y", "sample_weight", "class_weight"):
            if kwargs.get(name) is not None:
                raise UsageError(f"`{name}` must be left out: x holds all. Received: {name}")
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        callbacks = [NonFiniteGuard(self.settings.max_bad_steps), *(c for c in given if c)]
        return super().fit(x, callbacks=callbacks, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ProSeg":
        """A model with the settings of `get_config` and random weights, as others are to come."""
        config = config | {"config": of_saved(config["config"])}
        frozen = config.pop("frozen", [])
        model = cls(**config, load_encoder=False)
        for name in frozen:
            getattr(model, name).trainable = False
        return model

    def get_config(self) -> dict[str, Any]:
        """The settings as plain values, and which networks are frozen."""
        frozen = [name for name in NETWORKS if not getattr(getattr(self, name), "trainable", True)]
        settings = {"seed": self.seed, "config": to_dict(self.settings), "frozen": frozen}
        return {"name": self.name, **settings}

    def get_compile_config(self) -> dict[str, Any] | None:
        """The optimizer, which is all of `compile` that a file keeps; None before that."""
        if not self.compiled:
            return None
        if not self.optimizer.built:  # else its state would be looked for in the file in vain
            self.optimizer.build(self.trainable_variables)
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with the saved optimizer."""
        self.compile(keras.saving.deserialize_keras_object(config["optimizer"]))
        self.optimizer.build(self.trainable_variables)

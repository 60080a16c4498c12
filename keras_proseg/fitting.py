"""How a `ProSeg` learns: its loss, its counters and trackers, and Keras' `compile` and `fit`."""

from typing import Any

import keras
from keras import ops

from keras_proseg import objective as obj
from keras_proseg.batch import batch_of
from keras_proseg.errors import UsageError
from keras_proseg.optimizers import for_any_backend, make_optimizer
from keras_proseg.runtime import JIT_COMPILE
from keras_proseg.trainers import NonFiniteGuard, TrainStep

TERMS = ("nll_mask", "nll_image", "nll_rater", "kl_tau", "kl_z", "dice_loss", "energy_score")
COUNTERS = ("steps_seen", "steps_skipped", "bad_steps")


class Fitting(TrainStep):
    """The part of `ProSeg` that learns, beside `keras.Model`; `TrainStep` is the backend's."""

    def make_trackers(self: Any) -> None:
        """Makes the means that `fit` and `evaluate` show."""
        self.trackers = [keras.metrics.Mean(n) for n in ("loss", "elbo", *TERMS)]

    def make_counters(self: Any) -> None:
        """Makes the weights that count steps."""
        for counter in COUNTERS:
            weight = self.add_weight(
                shape=(),
                initializer="zeros",
                dtype="int32",
                trainable=False,
                aggregation="only_first_replica",
                name=counter,
            )
            setattr(self, counter, weight)

    def compute_terms_and_loss(self: Any, batch: Any, training: bool = True) -> tuple[Any, Any]:
        """`elbo_terms` and the scalar that is minimised (mean over the batch plus penalties)."""
        terms = self.elbo_terms(batch_of(self, batch), training)
        loss = ops.mean(obj.objective(terms, self.settings))
        return terms, loss + sum(self.losses)

    @property
    def steps_done(self: Any) -> int:
        """Optimiser steps so far, skipped ones too; kept in saved files."""
        return int(ops.convert_to_numpy(self.steps_seen))

    @property
    def scales_loss(self: Any) -> bool:
        """Whether the optimizer is to see steps that are not finite, to scale the loss by less.

        It skips them itself.
        """
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def count_step(self: Any, good: Any) -> None:
        """Counts one step, and whether it was skipped because it was not finite."""
        bad = 1 - ops.cast(good, "int32")
        self.steps_seen.assign(self.steps_seen + 1)
        self.steps_skipped.assign(self.steps_skipped + bad)
        self.bad_steps.assign((self.bad_steps + 1) * bad)

    def record(self: Any, terms: obj.ElboTerms, loss: Any, good: Any = True) -> dict[str, Any]:
        """Updates the trackers with one batch unless it was not finite; returns their values."""
        values = [loss, ops.mean(terms.elbo()), *(ops.mean(getattr(terms, n)) for n in TERMS)]
        # By images: the last batch of an epoch may be a short one.
        weight = ops.cast(good, "float32") * ops.cast(ops.shape(terms.kl_z)[0], "float32")
        for tracker, value in zip(self.trackers, values, strict=True):
            # 0 * nan is nan: the value itself must go.
            tracker.update_state(ops.where(good, value, 0.0), sample_weight=weight)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    @property
    def metrics(self: Any) -> list[keras.metrics.Metric]:
        """The trackers: nats per image, but `loss`, `dice_loss` and `energy_score` (no unit)."""
        return self.trackers

    def compile(
        self: Any,
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
        optimizer = keras.optimizers.get(optimizer)
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        # Keras does so by the model's own policy, which is float32 whatever that of its layers.
        if self.backbone.dtype_policy.name == "mixed_float16" and not scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )

    def fit(
        self: Any, x: Any = None, y: Any = None, *, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        """Keras' own, guarded against steps that are not finite again and again.

        Args:
            x: batches {image, masks, annotated}, as `elbo_terms` takes them.
            y: None, always.
            callbacks: Keras' own.
            **kwargs: of Keras' `fit`.

        Raises:
            UsageError: targets or weights, which a bound has none of.
            ProSegError: a batch of another shape, or steps that stay non-finite.
        """
        _check_alone(y=y, **kwargs)
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        callbacks = [NonFiniteGuard(self.settings.max_bad_steps), *(c for c in given if c)]
        return super().fit(x, callbacks=callbacks, **kwargs)

    def evaluate(self: Any, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Keras' own, of batches as `fit` takes them.

        Args:
            x: batches {image, masks, annotated}.
            y: None, always.
            **kwargs: of Keras' `evaluate`.

        Raises:
            UsageError: targets or weights, which a bound has none of.
            ProSegError: a batch of another shape.
        """
        _check_alone(y=y, **kwargs)
        return super().evaluate(x, **kwargs)

    def get_compile_config(self: Any) -> dict[str, Any] | None:
        """The optimizer, which is all of `compile` that a file keeps; None before that."""
        if not self.compiled:
            return None
        if not self.optimizer.built:  # else its state would be looked for in the file in vain
            self.optimizer.build(self.trainable_variables)
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)}

    def compile_from_config(self: Any, config: dict[str, Any]) -> None:
        """Compiles with the saved optimizer."""
        self.compile(keras.saving.deserialize_keras_object(for_any_backend(config["optimizer"])))
        self.optimizer.build(self.trainable_variables)


def _check_alone(**given: Any) -> None:
    """Raises where Keras would drop what stands beside batches without a word."""
    beside = given.get("validation_data")
    parts = beside[1:] if isinstance(beside, (tuple, list)) else ()
    if any(part is not None for part in parts):
        raise UsageError("`validation_data` must be batches alone. Received: targets or weights")
    for name in ("y", "sample_weight", "class_weight"):
        if given.get(name) is not None:
            raise UsageError(f"`{name}` must be left out: x holds all. Received: {name}")

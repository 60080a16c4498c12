"""The training step on JAX: stateless, from a state to a state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras

from keras_proseg.backends import check_devices
from keras_proseg.batch import batch_of

State = tuple[Any, Any, Any, Any]  # trainable, other, optimizer's and metrics' variables
# Without it JAX would run, and compile, one operation at a time.
JIT_COMPILE = True
# XLA fuses by itself, and its transposed convolutions take five times as long on a CPU.
SAVES_PASSES = False
Adam = keras.optimizers.Adam


def compiled(function: Any, model: Any, **fixed: Any) -> Any:
    """`function` of `model`, with arguments `fixed`, as one program per shape.

    The weights are arguments of it.
    """

    @jax.jit
    def program(values: Any, *arguments: Any) -> Any:
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            return function(model, *arguments, **fixed)

    return lambda *arguments: program([v.value for v in model.variables], *arguments)


def reused(function: Any, model: Any) -> Any:
    """What other programs call several times: traced once."""
    return compiled(function, model)


@contextmanager
def data_parallel(count: int) -> Iterator[None]:
    """Models made and fitted inside share each batch among `count` devices (DataParallel).

    Raises:
        UsageError: there are fewer devices.
    """
    names = keras.distribution.list_devices()
    check_devices(count, names)
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(None)


def spread_operations() -> None:
    """Nothing to do: only TensorFlow works on parts of a batch beside each other."""


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def train_step(self: Any, state: State, batch: Any) -> tuple[dict[str, Any], State]:
        """Takes a batch {image, masks, annotated}; returns the trackers and the new state."""
        trainable, other, optimizer, metrics = state
        batch = batch_of(self, batch)
        step = jax.value_and_grad(self._loss_and_aux, has_aux=True)
        (_, (terms, loss, other)), gradients = step(trainable, other, optimizer, batch)
        good = jnp.isfinite(loss)
        for gradient in gradients:
            good &= jnp.isfinite(gradient).all()
        moved = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        trainable, optimizer = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), moved, (trainable, optimizer)
        )
        logs, other, metrics = self._recorded(other, metrics, terms, loss, good)
        return logs, (trainable, other, optimizer, metrics)

    def test_step(self: Any, state: Any, batch: Any) -> tuple[dict[str, Any], Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        trainable, other, metrics = state
        batch = batch_of(self, batch)
        with keras.StatelessScope(self._mapping(trainable, other, metrics)) as scope:
            logs = self.record(*self.compute_terms_and_loss(batch, training=False))
            metrics = _current(scope, self.metrics_variables)
        return logs, (trainable, other, metrics)

    def sync_state(self: Any) -> None:
        """Puts the state of a running `fit` into the variables, and what is set there into it."""
        self.jax_state_sync()

    def replica(self: Any) -> tuple[int, int]:
        """Which replica this is, and of how many: JAX programs see the whole batch."""
        return 0, 1

    def parts_of(self: Any, size: Any) -> int:
        """Into how many parts a step's batch falls: XLA fuses across the whole batch."""
        return 1

    def _loss_and_aux(
        self: Any, trainable: Any, other: Any, optimizer: Any, batch: Any
    ) -> tuple[Any, Any]:
        mapping = self._mapping(trainable, other)
        mapping += list(zip(self.optimizer.variables, optimizer, strict=True))
        with keras.StatelessScope(mapping) as scope:
            terms, loss = self.compute_terms_and_loss(batch, training=True)
            scaled = self.optimizer.scale_loss(loss)
            other = _current(scope, self.non_trainable_variables)
        return scaled, (terms, loss, other)

    def _recorded(
        self: Any, other: Any, metrics: Any, terms: Any, loss: Any, good: Any
    ) -> tuple[Any, Any, Any]:
        with keras.StatelessScope(self._mapping([], other, metrics)) as scope:
            self.count_step(good)
            logs = self.record(terms, loss, good)
            other = _current(scope, self.non_trainable_variables)
            return logs, other, _current(scope, self.metrics_variables)

    def _mapping(self: Any, trainable: Any, other: Any, metrics: Any = ()) -> list[Any]:
        mapping = list(zip(self.trainable_variables, trainable, strict=False))
        mapping += zip(self.non_trainable_variables, other, strict=True)
        return mapping + list(zip(self.metrics_variables, metrics, strict=False))


def _current(scope: Any, variables: Any) -> list[Any]:
    found = [(variable, scope.get_current_value(variable)) for variable in variables]
    return [variable.value if value is None else value for variable, value in found]

"""The training step on JAX: stateless, from a state to a state."""

from typing import Any

import jax
import jax.numpy as jnp
import keras

State = tuple[Any, Any, Any, Any]  # trainable, other, optimizer's and metrics' variables
Adam = keras.optimizers.Adam


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def train_step(self: Any, state: State, batch: Any) -> tuple[dict[str, Any], State]:
        """Takes a batch {image, masks, annotated}; returns the trackers and the new state."""
        trainable, other, optimizer, metrics = state
        step = jax.value_and_grad(self._loss_and_aux, has_aux=True)
        (_, (terms, loss, other)), gradients = step(trainable, other, optimizer, batch)
        good = jnp.isfinite(loss)
        for gradient in gradients:
            good &= jnp.isfinite(gradient).all()
        moved = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        done = good | self.scales_loss
        trainable, optimizer = jax.tree.map(
            lambda new, old: jnp.where(done, new, old), moved, (trainable, optimizer)
        )
        logs, other, metrics = self._recorded(other, metrics, terms, loss, good)
        return logs, (trainable, other, optimizer, metrics)

    def test_step(self: Any, state: Any, batch: Any) -> tuple[dict[str, Any], Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        trainable, other, metrics = state
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

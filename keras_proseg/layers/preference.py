"""Rater preference: q(tau|r), p(tau) and p(r|tau)."""

from typing import Any

import keras
from keras import ops

from keras_proseg.distributions import Dirichlet

CLASSIFIER_WIDTH = 32


class RaterPreference(keras.layers.Layer):
    """q(tau|r) = Dirichlet(softplus(a_r)), one learnt a_r (T,) per rater; p(tau) is flat.

    Args:
        num_raters: R.
        size: T.
        start: raw values at the start, (own slots, other slots).
    """

    def __init__(
        self, num_raters: int, size: int, start: tuple[float, float], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_raters, self.size, self.start = num_raters, size, start

    def build(self, shape: Any = None) -> None:
        own = ops.arange(self.size) % self.num_raters
        own = ops.equal(own[None, :], ops.arange(self.num_raters)[:, None])
        start = ops.where(own, *(ops.convert_to_tensor(v, "float32") for v in self.start))
        self.concentration = self.add_weight(
            name="concentration",
            shape=(self.num_raters, self.size),
            initializer=lambda shape, dtype=None: ops.cast(start, dtype or "float32"),
        )
        self.built = True

    def q_tau(self) -> Dirichlet:
        """q(tau|r) of every rater, batch shape (R,)."""
        return Dirichlet(ops.softplus(self.concentration))

    def p_tau(self) -> Dirichlet:
        """The flat prior on the simplex, batch shape ()."""
        return Dirichlet(ops.ones((self.size,)))


class RaterClassifier(keras.layers.Layer):
    """p(r|tau): logits (..., R) from tau (..., T)."""

    def __init__(self, num_raters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(CLASSIFIER_WIDTH, activation="relu")
        self.out = keras.layers.Dense(num_raters)

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.out.build((*shape[:-1], self.hidden.units))

    def call(self, tau: Any) -> Any:
        return self.out(self.hidden(tau))

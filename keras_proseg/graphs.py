"""A model's functions as graphs, each made once."""

from collections.abc import Callable
from typing import Any

from keras_proseg.runtime import compiled, reused


class Graphs:
    """Functions that take a model first, compiled for it.

    Args:
        model: a `ProSeg`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._made: dict[Any, Callable[..., Any]] = {}

    def of(self, function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
        """`function` of the model, with the arguments `fixed`."""
        key = (function, *fixed.items())
        if key not in self._made:
            self._made[key] = compiled(function, self.model, **fixed)
        return self._made[key]

    def within(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of the model for use inside other graphs, which call it several times."""
        if function not in self._made:
            self._made[function] = reused(function, self.model)
        return self._made[function]

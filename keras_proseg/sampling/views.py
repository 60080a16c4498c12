"""Mirrored views of an image, among which its draws are shared (test-time augmentation)."""

from collections.abc import Callable
from typing import Any

from keras import ops


def mirrored(values: Any, view: int) -> Any:
    """values (..., H, W, C) as view 0 to 3 has them: 1 left to right, 2 upside down, 3 both.

    Mirrored again it is what it was.
    """
    for axis, bit in ((-2, 1), (-3, 2)):
        values = ops.flip(values, axis=axis) if view & bit else values
    return values


def among_views(count: Any, views: int, draw: Callable[[int, Any], Any]) -> Any:
    """Draws (B, `count`, H, W, K) of an image; draw s is of view s modulo `views`.

    Args:
        count: number of draws, an integer or a scalar tensor; at least 1.
        views: number of views.
        draw: function of a view and the indices of its draws to (B, draws, H, W, K), of the image
            as that view has it.
    """
    if views == 1:
        return draw(0, ops.arange(count))
    of_each = (count + views - 1) // views  # runtimes of exports round quotients towards 0
    # Where they leave a rest, some views draw the last one once more, and it is dropped.
    parts = [
        mirrored(draw(view, ops.minimum(views * ops.arange(of_each) + view, count - 1)), view)
        for view in range(views)
    ]
    draws = ops.stack(parts, axis=2)
    shape = ops.shape(draws)
    return ops.reshape(draws, (shape[0], of_each * views, *shape[3:]))[:, :count]

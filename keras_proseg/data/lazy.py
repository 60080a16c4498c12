"""Arrays that stay on disk: rows are read when they are asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

CHUNK = 256  # rows read at a time by what looks at all of them


class LazyRows:
    """Rows of one or several memory-mapped arrays, with as much of an array's face as is needed.

    Args:
        shards: arrays (n, ...) of one dtype and one shape but for the first axis.
        rows: which rows of their concatenation; all by default.
    """

    def __init__(self, shards: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        self.shards = list(shards)
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        self.rows = np.arange(self.starts[-1]) if rows is None else rows
        self.dtype = self.shards[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.shards[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis or first is None:
            return np.asarray(self)[index]
        rows = self.rows[first]
        values = self._read(np.atleast_1d(rows))
        values = values if np.ndim(rows) else values[0]
        if not rest:
            return values
        return values[tuple(rest)] if np.ndim(rows) == 0 else values[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self._read(self.rows)
        return values if dtype is None else values.astype(dtype)

    def take_rows(self, indices: np.ndarray) -> Any:
        """The rows at `indices`, still on disk."""
        return type(self)(self.shards, self.rows[indices])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if len(self.shards) == 1:
            return np.asarray(self.shards[0][rows])
        values = np.empty((len(rows), *self.shards[0].shape[1:]), self.dtype)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners):
            own = owners == owner
            values[own] = self.shards[owner][rows[own] - self.starts[owner]]
        return values


class PackedMasks(LazyRows):
    """Bit-packed masks on disk that read as (N, R, H, W, K) uint8.

    Args:
        shards: arrays (n, R, ceil(H W K / 8)) uint8.
        size: (H, W, K).
        rows: which rows of their concatenation; all by default.
        order: (N, R), the slot each rater's mask is taken from; as stored by default.
    """

    def __init__(
        self,
        shards: Sequence[np.ndarray],
        size: tuple[int, int, int],
        rows: np.ndarray | None = None,
        order: np.ndarray | None = None,
    ) -> None:
        super().__init__(shards, rows)
        self.mask_size, self.order = tuple(size), order

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), self.shards[0].shape[1], *self.mask_size)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis or first is None:
            return np.asarray(self)[index]
        places = np.arange(len(self))[first]
        values = self._unpack(np.atleast_1d(places))
        values = values if np.ndim(places) else values[0]
        return values[tuple(rest) if np.ndim(places) == 0 else (slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self._unpack(np.arange(len(self)))
        return values if dtype is None else values.astype(dtype)

    def take_rows(self, indices: np.ndarray) -> "PackedMasks":
        """The rows at `indices`, still on disk."""
        order = None if self.order is None else self.order[indices]
        return PackedMasks(self.shards, self.mask_size, self.rows[indices], order)  # type: ignore[arg-type]

    def reordered(self, order: np.ndarray) -> "PackedMasks":
        """With rater k's mask taken from slot `order[:, k]` (N, R)."""
        if self.order is not None:
            order = np.take_along_axis(self.order, order, axis=1)
        return PackedMasks(self.shards, self.mask_size, self.rows, order)  # type: ignore[arg-type]

    def areas(self) -> np.ndarray:
        """Foreground pixels (N, R)."""
        parts = [
            np.bitwise_count(self._packed(np.arange(s, min(s + CHUNK, len(self))))).sum(
                axis=-1, dtype=np.int64
            )
            for s in range(0, len(self), CHUNK)
        ]
        return np.concatenate(parts)

    def _packed(self, places: np.ndarray) -> np.ndarray:
        packed = self._read(self.rows[places])
        if self.order is None:
            return packed
        return np.take_along_axis(packed, self.order[places][:, :, None], axis=1)

    def _unpack(self, places: np.ndarray) -> np.ndarray:
        packed = self._packed(places)
        flat = np.unpackbits(packed, axis=-1, count=int(np.prod(self.mask_size)))
        return flat.reshape(*packed.shape[:2], *self.mask_size)


def channel_moments(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, (C,) float64, some images at a time.

    Args:
        images: (N, H, W, C), on disk or in memory.
    """
    count = np.prod(images.shape[:3])
    axes = (0, 1, 2)
    mean = sum(part.sum(axes, dtype=np.float64) for part in _chunks(images)) / count
    squares = sum(np.square(part - mean).sum(axes) for part in _chunks(images))
    return mean, np.sqrt(squares / count)


def _chunks(column: Any) -> Iterator[np.ndarray]:
    for start in range(0, len(column), CHUNK):
        yield column[start : start + CHUNK]


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """(N, R, H, W, K) 0/1 as bits (N, R, ceil(H W K / 8)) uint8."""
    return np.packbits(masks.reshape(*masks.shape[:2], -1), axis=-1)

"""Tensors out of a file in PyTorch's format before 1.6, without PyTorch and without running it."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_proseg.data.formats.plain_pickle import PlainUnpickler

KINDS: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
HEADER = 3  # pickles before the tensors: magic number, version, sizes of this machine

Storages = dict[str, np.ndarray]


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, of float32 and int64.

    Raises:
        pickle.UnpicklingError: something else is in it.
    """
    stream = io.BytesIO(content)
    for _ in range(HEADER):
        PlainUnpickler(stream).load()
    tensors = _TensorUnpickler(stream)
    state, storages = tensors.load(), {}
    for key in PlainUnpickler(stream).load():
        kind = tensors.kinds[key]
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = np.frombuffer(stream.read(count * kind.itemsize), kind)
    return {name: take(storages) for name, take in state.items()}


class _TensorUnpickler(PlainUnpickler):
    """Makes of each tensor a function of the storages, whose content comes after the pickle."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.kinds: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, as the base class gives for arrays."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _tensor(*arguments[:4])
        if module == "torch" and name in KINDS:
            return name
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> str:
        """The key of a storage, whose kind is noted."""
        _, kind, key = pid[:3]
        self.kinds[key] = KINDS[kind]
        return str(key)


def _tensor(key: str, offset: int, size: Any, stride: Any) -> Callable[[Storages], np.ndarray]:
    def take(storages: Storages) -> np.ndarray:
        values = storages[key][offset:]
        last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min(offset, *size, *stride, 0) < 0 or last >= len(values):
            raise pickle.UnpicklingError(f"a tensor {tuple(size)} beyond its storage")
        steps = [step * values.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(values, size, steps, writeable=False)

    return take

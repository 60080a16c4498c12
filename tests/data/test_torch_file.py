import io
import pickle
import sys
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest

from keras_proseg import imagenet
from keras_proseg.torch_file import read_tensors


class Rebuilt:
    """Pickles as a tensor of PyTorch's does."""

    def __init__(self, key, offset, size, stride):
        self.key, self.rest = key, (offset, size, stride)

    def __reduce__(self):
        module = sys.modules["torch._utils"]
        return module._rebuild_tensor_v2, (Storage(self.key), *self.rest, False, OrderedDict())


class Storage(str):
    pass


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", sys.modules["torch"].FloatStorage, str(value), "cpu", 6, None)
        return None


@pytest.fixture
def stand_in(monkeypatch):
    """Names to pickle by; PyTorch itself need not be installed."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    exec("def _rebuild_tensor_v2(*arguments): pass", utils.__dict__)
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def file_of(state):
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, stream, 2)
    Pickler(stream, 2).dump(state)
    pickle.dump(["7"], stream, 2)
    return stream.getvalue() + (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()


def test_offsets_and_strides(stand_in):
    state = {"rows": Rebuilt("7", 0, (2, 3), (3, 1)), "columns": Rebuilt("7", 1, (2, 2), (1, 3))}
    got = read_tensors(file_of(state))
    np.testing.assert_array_equal(got["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(got["columns"], [[1, 4], [2, 5]])


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (3,), (-1,)), (-1, (1,), (1,)), (0, (2, 3), (4, 1))],
)
def test_nothing_beyond_a_storage_is_read(stand_in, offset, size, stride):
    with pytest.raises(pickle.UnpicklingError, match="beyond its storage"):
        read_tensors(file_of({"x": Rebuilt("7", offset, size, stride)}))


def test_other_names_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="neither array nor container"):
        read_tensors(pickle.dumps(1) * 3 + pickle.dumps(OSError("x")))


def test_it_reads_what_pytorch_reads():
    torch = pytest.importorskip("torch")
    content = imagenet.package_file()
    expected = torch.load(io.BytesIO(content), weights_only=True)
    got = read_tensors(content)
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(got[name], tensor.numpy(), err_msg=name)

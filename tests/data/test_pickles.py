"""Pickled arrays are read by stand-ins: what is plain comes back, what lies is refused."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from keras_proseg.data.formats.plain_pickle import PlainUnpickler, plain
from keras_proseg.data.sources import read_dataset, verify_source
from keras_proseg.errors import ProSegError

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(6, dtype=">i2").reshape(2, 3),
    np.eye(3) > 0,
    np.arange(4, dtype=np.uint8).reshape(2, 2)[:, ::-1],
    np.array(["ab", "c"]),
    np.array([b"ab", b"\xff"]),
]


def load(content):
    return PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_plain_comes_back(protocol):
    for array in ARRAYS:
        found = plain(load(pickle.dumps(array, protocol)))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    items = OrderedDict(a=np.float64(3), b=np.str_("x"), c=b"\xff", d=[1, (2,)], e=np.int64(-4))
    found = load(pickle.dumps(items, protocol))
    assert isinstance(found, OrderedDict)
    assert found == items


def test_a_pickle_of_python_2():
    """Written there by `pickle.dumps(numpy.array([[1, 200]], "u1"), 2)`."""
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b"
        b"\x87Rq\x03(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|"
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\xc8tb."
    )
    np.testing.assert_array_equal(plain(load(content)), [[1, 200]])


class Lie:
    """Is pickled as `made` with `arguments`, and then set to `state`."""

    def __init__(self, made, arguments, state):
        self.reduced = made, arguments, state

    def __reduce__(self):
        return self.reduced


def array_of(dtype, shape=(4,), content=b"A" * 32):
    reconstruct = np._core.multiarray._reconstruct
    return Lie(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, content))


def test_a_dtype_that_lies_about_itself_is_not_believed():
    """NumPy's own would take the bytes for pointers, or read far beyond them."""
    for kind, size, flags in (("i8", -1, 63), ("S8", 10**9, 0)):
        state = (3, "<", None, None, None, size, 1, flags)
        found = plain(load(pickle.dumps(array_of(Lie(np.dtype, (kind, False, True), state)))))
        assert found.dtype == np.dtype(kind)
        assert found.tobytes() == b"A" * 32


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (array_of(np.dtype("f8"), (5, 5)), "cannot reshape"),
        (array_of(np.dtype("f8"), content=b"A" * 31), "multiple of element size"),
        (array_of("f8"), "no attribute 'kind'"),
        (Lie(np.dtype, ("i4,O",), None), "an array of void"),
    ],
)
def test_arrays_that_do_not_add_up_are_refused(lie, words, tmp_path):
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps({"a": {"image": lie, "masks": [np.eye(4)]}}))
    with pytest.raises(ProSegError, match=f"arrays and plain containers only.*{words}"):
        read_dataset(str(path))


def test_only_latin1_text_becomes_bytes():
    with pytest.raises(pickle.UnpicklingError, match="text in zlib"):
        load(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.")


def test_what_a_pickle_does_to_a_stand_in_stays_with_it():
    load(b"\x80\x02cnumpy\ndtype\n}X\x04\x00\x00\x00doorK\x01sb.")
    assert not hasattr(load(b"\x80\x02cnumpy\ndtype\n."), "door")


def test_nested_lists_are_not_made_into_arrays(tmp_path):
    bomb = [0.0]
    for _ in range(60):
        bomb = [bomb] * 8
    path = tmp_path / "x.pickle"
    for item in ({"image": bomb, "masks": [np.eye(2)]}, {"image": np.eye(2), "masks": [bomb]}):
        path.write_bytes(pickle.dumps({"a": item}))
        with pytest.raises(ProSegError, match=r"\(H, W\) numbers in an array. Received: list"):
            read_dataset(str(path))
    path.write_bytes(pickle.dumps({"a": {"image": np.zeros((0, 3)), "masks": [np.eye(2)]}}))
    with pytest.raises(ProSegError, match="image must be not empty|buffer"):
        read_dataset(str(path))


def test_items_without_a_scan_are_noted(tmp_path):
    items = {f"n{k}": {"image": np.zeros((8, 8)), "masks": [np.eye(8)]} for k in range(3)}
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(items))
    findings, dataset = verify_source(str(tmp_path / "x.pickle"))
    assert len(set(dataset.patients.tolist())) == 3
    assert sum("items without series_uid" in f.what for f in findings.items) == 1

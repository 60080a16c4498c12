"""Damaged, shuffled and mislabelled files: refused in plain words, or read without a wrong mask.

PROSEG_FUZZ=2000 tries so many inputs per kind; by default a few, the same ones every time.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import source_files as files
from dicom_files import write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_proseg.config import DataConfig
from keras_proseg.data.formats.image_file import read_image
from keras_proseg.data.prepared import MARK
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.sources import read_dataset, verify_source
from keras_proseg.errors import ProSegError

EXAMPLES = int(os.environ.get("PROSEG_FUZZ", "25"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="PROSEG_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TRIED = {"inputs": 0, "refused": 0}
GIVEN = DataConfig(rater_order="given")


def small_cases():
    return {
        case: (image[8:24, 8:24], {r: m[8:24, 8:24] for r, m in masks.items()})
        for case, (image, masks) in files.cases(3).items()
    }


def write_npz(folder, content):
    folder.mkdir(parents=True)
    images = np.stack([image for image, _ in content.values()])[..., None]
    blank = np.zeros((16, 16), np.uint8)
    masks = np.stack(
        [np.stack([m.get(r, blank) for r in files.RATERS]) for _, m in content.values()]
    )
    annotated = [[r in m for r in files.RATERS] for _, m in content.values()]
    np.savez(
        folder / "data.npz", images=images, masks=masks, annotated=annotated,
        rater_ids=files.RATERS, case_ids=list(content),
    )  # fmt: skip
    return folder / "data.npz"


def write_pickle(folder, content):
    folder.mkdir(parents=True)
    return files.write_pickle(folder / "data.pickle", content)


def write_file(folder, content):
    path = write_npz(folder, content)
    write_prepared(read_dataset(str(path)), folder / "prepared")
    path.unlink()
    return folder / "prepared"


def write_plain_nifti(folder, content):
    files.write_nifti(folder, content)
    import nibabel

    for path in list(folder.rglob("*.nii.gz")):
        nibabel.save(nibabel.load(path), path.with_suffix(""))
        path.unlink()
    return folder


SOURCES = {
    "npz": write_npz,
    "pickle": write_pickle,
    "prepared": write_file,
    "png": files.write_png,
    "nifti": write_plain_nifti,
    "manifest": files.write_manifest,
    "qubiq": files.write_qubiq,
    "hdf5": files.write_hdf5,
}


@st.composite
def damages(draw):
    """What happens to a file: a name and its numbers; places are fractions of its length."""
    kind = draw(st.sampled_from(["truncate", "flip", "shuffle", "zero", "repeat", "swap", "empty"]))
    places = draw(st.lists(st.floats(0, 1), min_size=1, max_size=4))
    return kind, places, draw(st.integers(0, 255)), draw(st.integers(0, 2**16))


def damage(content, how, others):
    kind, places, byte, number = how
    at = [min(int(place * len(content)), max(0, len(content) - 1)) for place in places]
    found = bytearray(content)
    if kind == "truncate":
        return bytes(found[: at[0]])
    if kind == "empty":
        return b""
    if kind == "swap":
        return others[number % len(others)]
    if kind == "zero":
        found[at[0] : at[0] + 64] = bytes(len(found[at[0] : at[0] + 64]))
    elif kind == "repeat":
        found[at[0] : at[0]] = found[at[0] : at[0] + 32]
    elif kind == "shuffle":
        middle = at[0]
        found = found[middle:] + found[:middle]
    elif found:
        for place in at:
            found[place] ^= byte or 1
    return bytes(found)


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "source"
    path = SOURCES[request.param](folder, small_cases())
    expected = masks_by_case(read_dataset(str(path), GIVEN))
    yield request.param, folder, path.relative_to(folder), expected
    print(f"fuzz: {TRIED['inputs']} inputs so far, {TRIED['refused']} refused")


def masks_by_case(dataset):
    """{(case, rater): mask} of what is annotated."""
    return {
        (str(dataset.case_ids[n]), dataset.raters[r]): np.asarray(dataset.masks[n, r])
        for n, r in np.argwhere(dataset.annotated).tolist()
    }


@FUZZ
@given(chosen=st.integers(0, 10**6), how=damages(), data=st.data())
def test_damaged_sources(source, tmp_path_factory, chosen, how, data):
    kind, folder, name, expected = source
    copy = tmp_path_factory.mktemp("damaged") / "source"
    shutil.copytree(folder, copy)
    paths = sorted(path for path in copy.rglob("*") if path.is_file())
    victim = paths[chosen % len(paths)]
    broken = damage(victim.read_bytes(), how, [path.read_bytes() for path in paths])
    changed = broken != victim.read_bytes()
    victim.write_bytes(broken)
    before = {path: path.read_bytes() for path in paths}
    TRIED["inputs"] += 1
    dataset = answer(read_dataset, str(copy / name), GIVEN)
    if isinstance(dataset, str):
        assert changed
        refused_twice(copy / name)
    else:
        check(dataset, expected, victim, kind, changed)
    assert {path: path.read_bytes() for path in paths} == before
    assert sorted(path for path in copy.rglob("*") if path.is_file()) == paths
    shutil.rmtree(copy.parent)


def answer(call, *arguments):
    """What `call` returns, or the words in which it refuses; any other exception is a failure."""
    try:
        return call(*arguments)
    except ProSegError as error:
        TRIED["refused"] += 1
        words = str(error)
    assert words.strip()
    assert "Traceback" not in words
    return words


def refused_twice(path):
    try:
        findings, _ = verify_source(str(path), GIVEN)
    except ProSegError:
        return
    assert findings.fatal
    assert all(finding.what and finding.remedy for finding in findings.items)


def check(dataset, expected, victim, kind, changed):
    images, masks = np.asarray(dataset.images), np.asarray(dataset.masks)
    assert np.isfinite(images).all()
    assert np.isin(masks, (0, 1)).all()
    assert images.shape[:3] == (masks.shape[0], *masks.shape[2:4])
    found = masks_by_case(dataset)
    one_file = kind in ("npz", "pickle", "prepared")  # holds all cases: the archive must be whole
    for key, mask in found.items():
        touched = kind == "pickle" or (not one_file and belongs(victim, key, kind))
        if key in expected and not (changed and touched):
            np.testing.assert_array_equal(mask, expected[key])


def belongs(victim: Path, key: tuple[str, str], kind: str) -> bool:
    """Whether the damaged file is of this case, or the table of all."""
    case = key[0].rpartition("/")[2].split("_slice")[0]
    return victim.suffix == ".csv" or case in victim.as_posix()


@FUZZ
@given(chosen=st.integers(0, 10**6), how=damages())
def test_damaged_series(tmp_path_factory, chosen, how):
    folder = tmp_path_factory.mktemp("series")
    units = np.random.default_rng(0).integers(-1000, 400, (4, 16, 16)).astype(np.int16)
    write_series(folder / "s", units)
    paths = sorted((folder / "s").glob("*.dcm"))
    victim = paths[chosen % 4]
    broken = damage(victim.read_bytes(), how, [path.read_bytes() for path in paths])
    victim.write_bytes(broken)
    TRIED["inputs"] += 1
    image = answer(read_image, folder / "s")
    if not isinstance(image, str):
        found = image.images[..., 0]
        assert np.isfinite(found).all()
        assert found.shape[1:] == (16, 16)
        whole = [(slice_ == units).all(axis=(1, 2)).any() for slice_ in found]
        assert sum(whole) >= 3 - (how[0] == "swap")
    shutil.rmtree(folder)


@FUZZ
@given(text=st.text(max_size=300), bytes_=st.binary(max_size=300))
def test_any_text_as_a_manifest_and_any_bytes_as_a_file(tmp_path_factory, text, bytes_):
    folder = tmp_path_factory.mktemp("any")
    (folder / "m.csv").write_text(text, encoding="utf-8")
    rows = text.replace("\x00", "")
    (folder / "n.csv").write_text(f"case,image,rater,mask\n{rows}", encoding="utf-8")
    for name in ("x.pickle", "x.npz", "x", "x.csv"):
        (folder / name).write_bytes(bytes_)
    (folder / "h").write_bytes(MARK + bytes_)
    for name in ("m.csv", "n.csv", "x.pickle", "x.npz", "x", "x.csv", "h"):
        TRIED["inputs"] += 1
        with pytest.raises(ProSegError):
            read_dataset(str(folder / name))
        TRIED["refused"] += 1
    shutil.rmtree(folder)


HOSTILE = [
    b"cos\nsystem\n(S'touch {marker}'\ntR.",
    b'c__builtin__\neval\n(S\'open("{marker}", "w")\'\ntR.',
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch marker\x85R.",
    b"\x80\x04cnumpy\nload\n(S'{marker}'\ntR.",
    b"(inumpy.testing\nassert_equal\n.",
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87Rtb.",
    b"\x80\x04P0\n.",
    b"\x80\x04}\x94\x8c\x01a\x94cbuiltins\ngetattr\ncos\nsystem\x86Rs.",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_pickles_are_refused_unrun(hostile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"
    path = tmp_path / "data.pickle"
    path.write_bytes(hostile.replace(b"{marker}", str(marker).encode()))
    with pytest.raises(ProSegError, match="arrays and plain containers only"):
        read_dataset(str(path))
    assert not marker.exists()


def test_a_pickle_that_calls_something_is_refused_unrun(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'marker'}",))

    content = {"a": {"image": np.zeros((4, 4)), "masks": [Bomb()], "series_uid": "1"}}
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(ProSegError, match=r"(posix|nt)\.system, which is neither array"):
        read_dataset(str(tmp_path / "x.pickle"))
    assert not (tmp_path / "marker").exists()
    objects = {"a": {"image": np.array([[None]]), "masks": [np.zeros((1, 1))], "series_uid": "1"}}
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(objects))
    with pytest.raises(ProSegError, match="an array of object"):
        read_dataset(str(tmp_path / "x.pickle"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "a pickled dict of items"),
        ({}, "a pickled dict of items, not empty"),
        ({"a": 3}, "a dict with image and masks"),
        ({"a": {"image": np.zeros(3), "masks": []}}, r"image must be \(H, W\)"),
        ({"a": {"image": np.full((2, 2), np.nan), "masks": [1]}}, "finite"),
        ({"a": {"image": np.zeros((2, 2)), "masks": []}}, "a list of masks"),
        ({"a": {"image": np.zeros((2, 2)), "masks": np.array(3)}}, "a list of masks"),
        ({"a": {"image": np.zeros((2, 2)), "masks": [np.zeros((3, 2))]}}, "of the image's size"),
        ({"a": {"image": np.zeros((2, 2)), "masks": [np.full((2, 2), 3)]}}, "0/1"),
        ({"a": {"image": np.eye(2), "masks": [np.eye(2)], "series_uid": 4}}, "series_uid"),
    ],
)
def test_pickles_of_other_things(content, words, tmp_path):
    import pickle

    (tmp_path / "x.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(ProSegError, match=words):
        read_dataset(str(tmp_path / "x.pickle"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t1c": None}, r"with t1, t1c, t2"),
        ({"t2": np.zeros((3, 3))}, "arrays of one shape"),
        ({"t2": np.full((4, 4), np.nan)}, "of an image finite and between"),
        ({"label_a1": np.full((4, 4), 2)}, "label_a1 must be 0/1"),
        ({"label_a1": np.zeros((2, 2, 2, 2))}, r"numbers \(H, W\) or a volume"),
    ],
)
def test_hdf5_of_other_things(change, words, tmp_path):
    import h5py

    arrays = {name: np.eye(4) for name in ("t1", "t1c", "t2", "label_a1")} | change
    with h5py.File(tmp_path / "case_1.h5", "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    with pytest.raises(ProSegError, match=words):
        read_dataset(str(tmp_path))

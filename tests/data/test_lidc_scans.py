"""LIDC-IDRI from raw DICOM: exact voxels, resampling, broken scans, workers, kills."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_scan_slice, write_slice
from pylidc_oracle import crop_ct, import_pylidc
from test_cli import run

from keras_proseg.config import DataConfig
from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.dicom_series import read_series
from keras_proseg.data.formats.dicom_slice import read_slice
from keras_proseg.data.lidc import crops as lidc_crops
from keras_proseg.data.lidc import load as lidc
from keras_proseg.data.lidc import pixels as lidc_pixels
from keras_proseg.data.lidc import scans as lidc_scans
from keras_proseg.data.lidc.crops import Crop
from keras_proseg.data.lidc.database import read_scans, scan_folder
from keras_proseg.data.lidc.labels import find_nodules
from keras_proseg.data.lidc.load import load_lidc
from keras_proseg.data.lidc.scans import prepare_scans
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.sources import verify_source
from keras_proseg.errors import ProSegError

PATIENTS = ("LIDC-IDRI-0323", "LIDC-IDRI-0719")  # short scans of small nodules


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(lidc.CACHE_VARIABLE, str(tmp_path / "own cache"))
    yield tmp_path / "home"
    assert not [p for p in (tmp_path / "home").iterdir() if "pylidc" in p.name]


@pytest.fixture(scope="module")
def scans():
    return read_scans()


@pytest.fixture(scope="module")
def nodules(scans):
    return find_nodules([scan for scan in scans if scan.patient in PATIENTS])


@pytest.fixture
def quick(monkeypatch, nodules, scans):
    """Spares a test the seconds of reading and clustering the whole database once more."""
    own = [scan for scan in scans if scan.patient in PATIENTS]
    monkeypatch.setattr(lidc_crops, "read_scans", lambda: [])
    monkeypatch.setattr(lidc_crops, "find_nodules", lambda _: nodules)
    monkeypatch.setattr(lidc_pixels, "read_scans", lambda: own)


@pytest.fixture(scope="module")
def series(scans, nodules, tmp_path_factory):
    """Two CT series with the identifiers of real scans: root and {series: voxels (Z, 512, 512)}."""
    root, voxels = tmp_path_factory.mktemp("dicom"), {}
    for scan in scans:
        if scan.patient not in PATIENTS:
            continue
        folder = scan_folder(root, scan)
        needed = {k for n in nodules if n.scan is scan for k in n.slices()}
        needed = range(min(needed) - 2, max(needed) + 3)
        shape = (len(scan.zvals), 512, 512)
        raw = np.random.default_rng(scan.scan_id).integers(0, 4096, shape, dtype=np.uint16)
        for index in needed:
            write_scan_slice(folder / f"{(index * 37) % 1009:04d}.dcm", scan, index, raw[index])
        voxels[scan.series_uid] = raw.astype(np.int16) - 1024
    assert len(voxels) == 2
    return root, voxels


def config(root, **changes):
    return DataConfig(min_raters=1, images="ct", dicom=str(root), **changes)


def usable(nodules):
    return [n for n in nodules if len(n.annotations) <= 4]


@pytest.mark.usefixtures("quick")
def test_real_voxels_are_exact(series, nodules, tmp_path):
    root, voxels = series
    dataset = load_lidc(config(root), tmp_path, progress=False)
    assert dataset.image_kind == "ct"
    own = usable(nodules)
    assert dataset.notes["nodules"] == len(own)
    assert dataset.notes["nodules_without_pixels"] == 0
    expected = []
    for nodule in own:
        (row, column), slices = Crop(nodule, DataConfig()).offset, nodule.slices()
        own_voxels = voxels[nodule.scan.series_uid]
        expected.append(own_voxels[slices, row : row + 128, column : column + 128])
    np.testing.assert_array_equal(np.asarray(dataset.images)[..., 0], np.concatenate(expected))
    masks = np.concatenate([Crop(n, DataConfig()).masks().sum(axis=1) for n in own])
    np.testing.assert_array_equal(np.asarray(dataset.masks)[..., 0].sum(axis=1), masks)
    place = dataset.places[0]
    assert place.volume.kind == "dicom"
    np.testing.assert_array_equal(
        place.restore(dataset.images[0, ..., 0].astype(float))[
            place.offset[0] : place.offset[0] + 128, place.offset[1] : place.offset[1] + 128
        ],
        expected[0][0],
    )  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_pylidc_reading_the_same_files_agrees(nodules, tmp_path):
    nodule = usable(nodules)[0]
    scan = nodule.scan
    folder = scan_folder(tmp_path, scan)
    for index in range(len(scan.zvals)):
        write_scan_slice(folder / f"{index}.dcm", scan, index, np.full((512, 512), index))
    theirs = import_pylidc(tmp_path).query(import_pylidc(tmp_path).Scan)
    volume = theirs.filter_by(id=scan.scan_id).one().to_volume(verbose=False)
    (row, column), slices = Crop(nodule, DataConfig()).offset, nodule.slices()
    window = volume[row : row + 128, column : column + 128, slices]
    found = crop_ct(nodule, tmp_path, 128)
    np.testing.assert_array_equal(np.moveaxis(window, 2, 0), found)


@pytest.mark.usefixtures("quick")
def test_whole_nodules_as_volumes(series, nodules, tmp_path):
    root, voxels = series
    dataset = load_lidc(config(root, unit="volumes"), tmp_path, progress=False)
    nodule = usable(nodules)[0]
    first, last = nodule.slices()[0] - 2, nodule.slices()[-1] + 2
    (row, column) = Crop(nodule, DataConfig()).offset
    own = [k for k, name in enumerate(dataset.case_ids) if name.startswith(f"{nodule.key}/")]
    assert len(own) == last - first + 1
    np.testing.assert_array_equal(
        dataset.images[np.array(own), ..., 0],
        voxels[nodule.scan.series_uid][
            first : last + 1, row : row + 128, column : column + 128
        ],
    )  # fmt: skip
    assert not dataset.masks[np.array(own[:2])].any()
    assert dataset.masks[own[2]].any()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("unit", ["slices", "volumes"])
def test_one_spacing_keeps_places_and_areas(nodules, scans, tmp_path, unit):
    """A linear ramp of HU resamples to itself; areas in mm2 and volumes in mm3 are kept."""
    rows, columns = np.mgrid[:512, :512]
    for scan in [s for s in scans if s.patient in PATIENTS]:
        folder = scan_folder(tmp_path, scan)
        for index in range(len(scan.zvals)):
            pixels = rows + 2 * columns + 5 * index
            write_scan_slice(folder / f"{index}.dcm", scan, index, pixels)
    spacing = 0.5
    own = config(tmp_path, spacing=spacing, unit=unit)
    dataset = load_lidc(own, tmp_path / "cache", progress=False)
    np.testing.assert_allclose(dataset.spacing, spacing, rtol=2e-3)
    for nodule in usable(nodules):
        crop = Crop(nodule, own)
        mine = [k for k, n in enumerate(dataset.case_ids) if n.startswith(f"{nodule.key}/")]
        image = dataset.images[mine[0], ..., 0].astype(float)
        ratio = 512 / crop.size
        at = (np.array(crop.offset) + 0.5) * ratio - 0.5
        expected = at[0] + 2 * at[1] + 5 * crop.slices[0] - 1024
        assert abs(image[0, 0] - expected) <= 1
        np.testing.assert_allclose(np.diff(image, axis=1).mean(), 2 * ratio, atol=0.02)
        np.testing.assert_allclose(np.diff(image, axis=0).mean(), ratio, atol=0.02)
        native = Crop(nodule, replace(own, spacing=None)).masks()
        area = native.sum() * nodule.scan.spacing**2
        found = np.asarray(dataset.masks[np.array(mine)]).sum() * crop.spacing**2
        if unit == "volumes":
            area *= np.diff(nodule.scan.zvals).mean()
            found *= spacing
        assert found == pytest.approx(area, rel=0.2 if unit == "volumes" else 0.08)
        if unit == "volumes":
            np.testing.assert_allclose(np.diff(crop.z), spacing)
            assert len(mine) == len(crop.z)


@pytest.mark.usefixtures("quick")
def test_phantoms_take_the_same_settings(tmp_path):
    base = DataConfig(images="phantom", min_raters=1, limit=2)
    resampled = load_lidc(replace(base, spacing=0.5, unit="volumes"), tmp_path, progress=False)
    np.testing.assert_allclose(resampled.spacing, 0.5, rtol=2e-3)
    assert resampled.images.shape[0] > load_lidc(base, tmp_path, progress=False).images.shape[0]


@pytest.mark.usefixtures("quick")
def test_broken_scans_are_reported_and_skipped(series, nodules, tmp_path):
    root, _ = series
    shutil.copytree(root, tmp_path / "dicom")
    first, second = (n.scan for n in (usable(nodules)[0], usable(nodules)[-1]))
    assert first is not second
    folder = scan_folder(tmp_path / "dicom", first)
    victim = sorted(folder.glob("*.dcm"))[1]
    whole = victim.read_bytes()
    source = DataConfig(min_raters=1, images="ct", dicom=str(tmp_path / "dicom"))
    for damaged, words in (
        (b"nothing", r"Cannot read .*expected a CT slice"),
        (whole[:-5000], "must hold whole pixels"),
    ):
        victim.write_bytes(damaged)
        findings, dataset = verify_source("lidc", source)
        (left,) = [f for f in findings.items if "scan left out" in f.what]
        assert left.file == str(folder)
        assert victim.name in left.what
        assert words.split(".*")[-1] in left.what
        assert set(dataset.patients) == {second.patient}
        assert not findings.fatal
        lost = [n for n in usable(nodules) if n.scan is first]
        assert dataset.notes["nodules_without_pixels"] == len(lost)
    victim.write_bytes(b"x" * len(whole))
    assert any("scan left out" in f.what for f in verify_source("lidc", source)[0].items)
    victim.write_bytes(whole)  # mended, as large as before
    findings, dataset = verify_source("lidc", source)
    assert not any("scan left out" in f.what for f in findings.items)
    assert dataset.notes["nodules_without_pixels"] == 0
    victim.unlink()
    findings, dataset = verify_source("lidc", source)
    assert any("a gap between" in f.what for f in findings.items)


@pytest.mark.usefixtures("quick")
def test_cases_say_where_their_files_lie_from_any_folder(series, tmp_path, monkeypatch):
    root, _ = series
    monkeypatch.chdir(root.parent)
    load_lidc(config(root.name), tmp_path, progress=False)
    monkeypatch.chdir(tmp_path)
    place = load_lidc(config(root), tmp_path, progress=False).places[0]
    assert Path(place.volume.path).is_relative_to(root)
    assert len(list(tmp_path.glob("lidc-ct-*.h5"))) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("images", ["ct", "phantom"])
def test_outlines_too_small_for_the_spacing_are_told(series, nodules, tmp_path, images):
    root, _ = series
    dicom = str(root) if images == "ct" else None
    coarse = DataConfig(min_raters=1, crop=64, spacing=3.0, images=images, dicom=dicom)
    dataset = load_lidc(coarse, tmp_path, progress=False)
    drawn = sum(Crop(n, DataConfig(crop=64)).masks().any((2, 3)).sum() for n in usable(nodules))
    lost = int(drawn) - int(np.asarray(dataset.masks).any(axis=(2, 3, 4)).sum())
    assert lost > 0
    told = ["lidc", f"{lost} outlines vanish at the new scale", "choose a finer --spacing"]
    assert told in dataset.notes["findings"]
    fine = load_lidc(replace(coarse, spacing=None), tmp_path, progress=False)
    assert fine.notes["findings"] == []


@pytest.mark.usefixtures("quick")
def test_scans_without_their_slices_are_left_out(scans, nodules, tmp_path):
    scan = usable(nodules)[0].scan
    folder = scan_folder(tmp_path, scan)
    write_scan_slice(folder / "0.dcm", scan, 0, np.zeros((512, 512)))
    with pytest.raises(ProSegError, match=r"at least one nodule with .*lacks some of its slices"):
        load_lidc(config(tmp_path), tmp_path / "cache", progress=False)
    (folder / "0.dcm").rename(folder / "0.txt")
    with pytest.raises(ProSegError, match="Real CT needs DICOM files"):
        load_lidc(config(tmp_path), tmp_path / "cache", progress=False)


@pytest.mark.usefixtures("quick")
def test_no_nodule_asked_for_has_pixels(series, tmp_path, monkeypatch):
    monkeypatch.setattr(lidc, "choose_nodules", lambda _: ([], {}))
    with pytest.raises(ProSegError, match="at least one nodule with pixels. Received: 0 nodules"):
        load_lidc(config(series[0]), tmp_path, progress=False)


def test_duplicates_are_named_and_the_first_instance_wins(series, nodules, tmp_path):
    root, _ = series
    nodule = usable(nodules)[0]
    scan, index = nodule.scan, nodule.slices()[0]
    folder = scan_folder(root, scan)
    copy = scan_folder(tmp_path, scan)
    shutil.copytree(folder, copy)
    expected = crop_ct(nodule, root, 32)
    longer = replace(scan, zvals=np.r_[scan.zvals, np.zeros(9)])  # a higher instance number
    write_scan_slice(copy / "again.dcm", longer, index, np.zeros((512, 512)))
    np.testing.assert_array_equal(crop_ct(nodule, tmp_path, 32), expected)
    findings = Findings()
    read_series(copy, findings)
    assert any("again.dcm" in f.what and "both lie at" in f.what for f in findings.items)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"RescaleIntercept": None, "RescaleSlope": None}, "with RescaleSlope"),
        ({"RescaleSlope": ""}, "with RescaleSlope"),
        ({"RescaleIntercept": ""}, "with RescaleSlope"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"Rows": 0}, "a whole position and size"),
        ({"RescaleSlope": "inf"}, "finite RescaleSlope"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "a whole position and size"),
    ],
)
def test_slices_that_say_too_little(fields, words, tmp_path):
    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, **fields)
    with pytest.raises(ProSegError, match=words):
        read_slice(read_series(tmp_path, Findings()).files[0].path)


def test_folders_that_are_no_single_series(tmp_path):
    with pytest.raises(ProSegError, match="a folder with DICOM files"):
        read_series(tmp_path, Findings())
    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1)
    with pytest.raises(ProSegError, match="a CT slice of 512x512"):
        read_slice(tmp_path / "a.dcm", (512, 512))
    write_slice(tmp_path / "b.dcm", np.zeros((8, 9)), (0, 0, 2), 2)
    with pytest.raises(ProSegError, match="slices of one size"):
        read_series(tmp_path, Findings())
    write_slice(tmp_path / "b.dcm", np.zeros((8, 8)), (0, 0, 2), 2, series="1.2.3.9")
    with pytest.raises(ProSegError, match="a folder of one series"):
        read_series(tmp_path, Findings())
    for fields, words in (
        ({"PixelSpacing": [0.6, 0.8]}, "slices of one pixel spacing"),
        ({"PixelSpacing": None}, "slices of one pixel spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "slices of one orientation"),
    ):
        write_slice(tmp_path / "b.dcm", np.zeros((8, 8)), (0, 0, 2), 2, **fields)
        with pytest.raises(ProSegError, match=words):
            read_series(tmp_path, Findings())


def test_slices_lie_along_their_normal_with_the_spacing_of_rows_first(tmp_path):
    for number, place in enumerate((12.0, 2.0, 7.0)):
        sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [0.6, 0.8]}
        write_slice(tmp_path / f"{number}.dcm", np.zeros((8, 8)), (place, 4, 9), number, **sagittal)
    series = read_series(tmp_path, Findings())
    assert [file.path.name for file in series.files] == ["0.dcm", "2.dcm", "1.dcm"]
    np.testing.assert_allclose(series.positions, [-12, -7, -2])
    assert series.spacing == (0.6, 0.8)


@pytest.mark.usefixtures("quick")
def test_slices_of_a_resampled_volume_are_of_the_nearest_file(series, nodules, tmp_path):
    root, _ = series
    volumes = config(root, unit="volumes", spacing=1.0)
    dataset = load_lidc(volumes, tmp_path, progress=False)
    nodule = usable(nodules)[0]
    rows = [k for k, name in enumerate(dataset.case_ids) if name.startswith(f"{nodule.key}/")]
    crop = Crop(nodule, volumes)
    zvals = nodule.scan.zvals
    needed = range(min(nodule.slices()) - 2, max(nodule.slices()) + 3)  # files there are
    for row, z in zip(rows, crop.z, strict=True):
        index = dataset.places[row].index
        nearest = min(abs(zvals[k] - z) for k in needed)
        read = read_series(scan_folder(root, nodule.scan), Findings()).positions
        assert abs(read[index] - z) == pytest.approx(nearest, abs=0.06)


@pytest.mark.usefixtures("quick")
def test_a_limit_holds_for_real_ct(series, tmp_path):
    root, _ = series
    dataset = load_lidc(config(root, limit=2), tmp_path, progress=False)
    assert dataset.notes["nodules"] == 2


def test_files_of_a_series_may_have_any_name(tmp_path):
    for number, name in enumerate(["a.dcm", "B.DCM", "IM0003", "1.2.3.4"]):
        write_slice(tmp_path / name, np.zeros((8, 8)), (0, 0, number), number)
    shutil.copy(tmp_path / "a.dcm", tmp_path / "DICOMDIR")
    (tmp_path / "LICENSE").write_text("not an image")
    (tmp_path / "more").mkdir()
    files = read_series(tmp_path, Findings()).files
    assert [file.path.name for file in files] == ["a.dcm", "B.DCM", "IM0003", "1.2.3.4"]


def test_pydicoms_own_ct_slice():
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm")
    expected = dcmread(path).pixel_array.astype(np.int16) - 1024
    np.testing.assert_array_equal(read_slice(path), expected)


@pytest.mark.usefixtures("quick")
def test_a_prepared_cache_is_used_and_a_damaged_one_made_again(series, tmp_path, monkeypatch):
    root, _ = series
    before = load_lidc(config(root), tmp_path, progress=False).fingerprint()
    (path,) = tmp_path.glob("lidc-ct-*.h5")
    with monkeypatch.context() as patch:
        patch.setattr(lidc, "prepare_scans", lambda *_: pytest.fail("prepared again"))
        assert load_lidc(config(root), tmp_path, progress=False).fingerprint() == before
    path.write_bytes(path.read_bytes()[:-100])
    assert load_lidc(config(root, workers=2), tmp_path, progress=False).fingerprint() == before


def test_parts_that_vanish_while_they_are_joined_are_one_line(series, tmp_path, monkeypatch):
    def prepared(tasks, workers):
        yield from prepare_scans(tasks, workers)
        tasks[0].part.unlink()

    monkeypatch.setattr(lidc, "prepare_scans", prepared)
    with pytest.raises(ProSegError, match="must keep the prepared scans; run the command again"):
        load_lidc(config(series[0]), tmp_path, progress=False)
    assert not list(tmp_path.glob("*.h5"))


KILLED = """
import os, sys
from keras_proseg.data.lidc import load as lidc
from keras_proseg.data.lidc import crops as lidc_crops
from keras_proseg.data.lidc import scans as lidc_scans
from keras_proseg.config import DataConfig
from keras_proseg.data.lidc.database import read_scans
prepare, done = lidc_scans.prepare_scan, []
def slow(task):
    if done:
        print("one done", flush=True); import time; time.sleep(60)
    done.append(task)
    return prepare(task)
lidc_scans.prepare_scan = slow
own = [s for s in read_scans() if s.patient in sys.argv[3].split(",")]
lidc_crops.read_scans = lambda: own
lidc.load_lidc(DataConfig(min_raters=1, images="ct", dicom=sys.argv[1]), sys.argv[2], False)
"""


@pytest.mark.usefixtures("quick")
def test_a_killed_preparation_goes_on_with_the_next_scan(series, tmp_path, monkeypatch):
    root, _ = series
    whole = load_lidc(config(root), tmp_path / "whole", progress=False).fingerprint()
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, str(root), str(cache), ",".join(PATIENTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"one done\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(cache.glob("*.h5"))
    (part,) = cache.glob("lidc-ct-*.parts/*.npz")
    made = []
    prepare = lidc_scans.prepare_scan
    monkeypatch.setattr(lidc_scans, "prepare_scan", lambda task: made.append(task) or prepare(task))
    found = load_lidc(config(root), cache, progress=False)
    assert len(made) == 1
    assert made[0].part != part
    assert found.fingerprint() == whole
    assert not list(cache.glob("*.parts"))


def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("quick")
def test_a_worker_that_is_killed_is_one_line(series, tmp_path, monkeypatch):
    monkeypatch.setattr(lidc_scans, "prepare_scan", die)
    with pytest.raises(ProSegError, match="run the command again.*was killed"):
        load_lidc(config(series[0], workers=2), tmp_path, progress=False)


@pytest.mark.usefixtures("quick")
def test_prepare_command_and_pylidcrc(series, home, tmp_path):
    root, _ = series
    shutil.copytree(root, tmp_path / "dicom")
    victim = sorted(tmp_path.glob("dicom/LIDC-IDRI-0719/*/*/*.dcm"))[0]
    victim.write_bytes(b"nothing")
    (home / ".pylidcrc").write_text(f"[dicom]\npath = {tmp_path / 'dicom'}\n")
    done = run(
        "data", "prepare", "lidc", "--images", "ct", "--min-raters", 1, "--workers", 2,
        "--spacing", 0.7, "--out", tmp_path / "data",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "scan left out: Cannot read" in done.output
    assert load_prepared([tmp_path / "data"]).notes["scale"] == {"spacing": 0.7}
    (home / ".pylidcrc").unlink()
    again = run("data", "verify", tmp_path / "data")
    assert again.exit_code == 0, again.output
    assert "raters rank1, rank2, rank3, rank4" not in again.output
    assert "reader1" in again.output

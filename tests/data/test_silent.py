"""Files that could be read as something else, or passed over, without a word."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import source_files as files
from dicom_files import write_series, write_slice
from PIL import Image

from keras_proseg import Dataset, ProSegError
from keras_proseg.config import DataConfig
from keras_proseg.data.findings import DataError, Findings
from keras_proseg.data.formats.dicom_series import read_series
from keras_proseg.data.formats.image_file import read_image
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.sources import read_dataset, verify_source
from keras_proseg.data.verify import check_dataset

HUGE = 1e39  # beyond a float32


def told(source, config=None):
    findings, _ = verify_source(str(source), config or DataConfig())
    return [str(finding) for finding in findings.items]


def test_a_flipped_bit_of_a_png_is_seen(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mask.png"
    Image.fromarray(((rng.random((32, 32)) > 0.5) * 255).astype("uint8")).save(path)
    whole, right = path.read_bytes(), read_image(path).images
    start = whole.index(b"IDAT") + 4
    for place in rng.integers(start, len(whole) - 12, 60):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(ProSegError, match=r"mask.png must be a whole .png file"):
            read_image(path)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_image(path).images, right)


@pytest.mark.parametrize("kind", ["npy", "nifti", "hdf5", "pickle"])
def test_numbers_beyond_a_float32_are_refused(kind, tmp_path):
    content = files.cases(3)
    image = content["case0"][0].astype(">f8")
    image[3, 3] = HUGE
    content["case0"] = (image, content["case0"][1])
    if kind == "npy":
        files.write_png(tmp_path / "in", content)
        (tmp_path / "in" / "case0" / "image.png").unlink()
        np.save(tmp_path / "in" / "case0" / "image.npy", image)
        source = tmp_path / "in"
    elif kind == "nifti":
        source = files.write_nifti(tmp_path / "in", content)
        header = nibabel.Nifti1Header(endianness=">")
        volume = nibabel.Nifti1Image(image, files.AFFINE, header)
        volume.set_data_dtype(">f8")
        nibabel.save(volume, source / "case0" / "image.nii.gz")
    elif kind == "hdf5":
        source = files.write_hdf5(tmp_path / "in", content)
    else:
        content["case0"] = (image * 255, content["case0"][1])
        source = files.write_pickle(tmp_path / "in.pickle", content)
    with pytest.raises(DataError, match=r"finite and between -1e\+15 and 1e\+15"):
        read_dataset(str(source))


def test_what_is_prepared_can_be_read(tmp_path, arrays):
    wide = Dataset.from_arrays(arrays["images"].astype(np.longdouble), arrays["masks"])
    assert wide.images.dtype == np.float64
    (path,) = write_prepared(wide, tmp_path / "wide.h5")
    findings = Findings()
    check_dataset(read_dataset(str(path)), findings)
    assert not findings.fatal


def test_a_spacing_that_makes_images_huge_is_refused(tmp_path, arrays):
    spacing = np.ones((len(arrays["images"]), 2))
    spacing[2] = 1e20
    np.savez(tmp_path / "far.npz", **arrays, spacing=spacing)
    for fit in ("exact", "pad"):
        config = DataConfig(spacing=1.0, fit=fit)
        (line,) = [line for line in told(tmp_path / "far.npz", config) if "at most" in line]
        assert "must be of at most 16777216 pixels at 1.0 mm" in line
        assert "Received: 3.2e+21x3.2e+21 -> mend its spacing" in line
        with pytest.raises(DataError, match="16777216"):
            read_dataset(str(tmp_path / "far.npz"), config)


@pytest.fixture
def root(tmp_path):
    return files.write_png(tmp_path / "in", files.cases(3))


def test_a_case_that_is_called_like_a_split_is_not_passed_over(root):
    (root / "case2").rename(root / "test")
    (line,) = [line for line in told(root) if "called like the split" in line]
    assert line.startswith(f"{root / 'test'}: files of a case")


def test_a_folder_of_slices_is_no_missing_rater(root):
    (root / "case0" / "mask-dee").mkdir()
    assert any("mask-dee: called like an image or mask" in line for line in told(root))


def test_channels_have_one_file_each_and_one_spelling(root):
    for case in ("case0", "case1", "case2"):
        name = "image-e\u0301.png" if case == "case1" else "image-\u00e9.png"
        (root / case / "image.png").rename(root / case / name)
    assert not any("where most cases have" in line for line in told(root))
    np.save(root / "case0" / "image-\u00e9.npy", np.zeros((32, 32)))
    assert any("two files of one channel: \u00e9, \u00e9" in line for line in told(root))


def test_a_rater_of_blanks_is_none(root):
    (root / "case0" / "mask-ann.png").rename(root / "case0" / "mask- .png")
    assert any("mask- .png: a mask of a rater without a name" in line for line in told(root))


def test_arrays_and_files_of_hdf5_that_are_not_read_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = files.write_hdf5(Path("in"), files.cases(6))
    first, second, *_ = sorted(root.glob("*/*.h5"))
    for path in (first, second):
        with h5py.File(path, "a") as file:
            file.move("label_a3", "label_A3")
    (root / "deep" / "er").mkdir(parents=True)
    first.with_name("other.hdf5").write_bytes(first.read_bytes())
    (root / "deep" / "er" / "one.h5").write_bytes(first.read_bytes())
    lines = told(root)
    text = "label_A3 of 2 file(s) not read, here the first -> name the raters' masks label_a1"
    assert sum(text in line for line in lines) == 1
    for name in ("other.hdf5", "deep/er/one.h5"):
        assert any(f"{name}: a file that is not read" in line for line in lines)


@pytest.mark.parametrize("what", ["case", "patient", "rater"])
def test_a_manifest_names_everybody(what, tmp_path):
    path = files.write_manifest(tmp_path / "in", files.cases(3))
    head, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    cells[head.split(",").index(what)] = "nan"
    path.write_text("\n".join([head, ",".join(cells), *rest]))
    assert any(f"row 2: nan for a {what} -> name the {what}" in line for line in told(path))


def test_a_mask_of_two_cases_is_noted(tmp_path):
    path = files.write_manifest(tmp_path / "in", files.cases(3))
    path.write_text(path.read_text().replace("ann/case2.nii.gz", "ann/case1.nii.gz"))
    (line,) = [line for line in told(path) if "a mask of case" in line]
    assert "ann/case1.nii.gz: case case2 has a mask of case case1 -> give each case" in line


@pytest.mark.parametrize("raters", [["a", "nan", "b"], [1.0, np.nan, 2.0], ["a", "", "b"]])
def test_raters_without_a_name_are_refused(raters, arrays):
    with pytest.raises(ProSegError, match="raters must be 3 distinct names"):
        Dataset.from_arrays(**arrays, raters=raters)


def test_names_are_whole_unicode_and_one_line(arrays, tmp_path):
    with pytest.raises(ProSegError, match="raters must be whole Unicode"):
        Dataset.from_arrays(**arrays, raters=["a", "b\ud800", "c"])
    manifest = files.write_manifest(tmp_path / "in", files.cases(3))
    digits = "9" * 5000  # which Python makes no number of
    manifest.write_text(manifest.read_text().replace(",bob,", f",{digits},"))
    assert digits in read_dataset(str(manifest)).raters
    findings = Findings("a\nfile")
    findings.note("odd", "mend it")
    assert str(findings.items[0]) == "a file: odd -> mend it"


def test_files_of_a_series_that_are_no_slices_are_told(tmp_path):
    folder = tmp_path / "ct"
    write_series(folder, np.zeros((3, 8, 8), int))
    (folder / "notes.xml").write_text("beside them")
    (folder / "IM0007").write_text("none of these")
    findings = Findings()
    series = read_series(folder, findings)
    (line,) = map(str, findings.items)
    assert "1 file(s) that are no DICOM, as IM0007, are passed over" in line
    (folder / "z.dcm").symlink_to(tmp_path / "gone.dcm")
    with pytest.raises(ProSegError, match=r"z.dcm must be a file. Received: a link that leads"):
        read_series(folder, Findings())
    assert len(series.files) > 1


def test_a_table_of_a_slice_is_not_passed_over(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], np.array([5, 7], "<u2").tobytes()
    fields = {"Modality": "CR", "ModalityLUTSequence": pydicom.Sequence([table])}
    write_slice(tmp_path / "cr.dcm", np.ones((4, 4)), (0, 0, 0), 1, **fields)
    with pytest.raises(ProSegError, match="RescaleSlope. Received: one of a ModalityLUTSequence"):
        read_image(tmp_path / "cr.dcm")


def test_slices_that_lie_nowhere_are_refused(tmp_path):
    fields = {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}
    write_slice(tmp_path / "ct.dcm", np.ones((4, 4)), (0, 0, 0), 1, **fields)
    with pytest.raises(ProSegError, match=r"ct.dcm must be a slice that lies in space"):
        read_image(tmp_path / "ct.dcm")


def test_pixels_of_half_precision_are_pixels(arrays, recwarn):
    Dataset.from_arrays(arrays["images"].astype(np.float16), arrays["masks"])
    assert not recwarn.list
    bad = arrays["images"].astype(np.float16)
    bad[0, 0, 0] = np.inf
    with pytest.raises(ProSegError, match="between -1e"):
        Dataset.from_arrays(bad, arrays["masks"])

"""What else may lie in a folder: hidden files, other kinds, names that nobody can read."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import source_files as files
from dicom_files import write_series
from PIL import Image
from test_cli import run

from keras_proseg.data.findings import DataError, Findings
from keras_proseg.data.formats.dicom_series import read_series
from keras_proseg.data.records import visible
from keras_proseg.data.sources import read_dataset, verify_source


@pytest.fixture
def root(tmp_path):
    return files.write_png(tmp_path / "cases", files.cases(3))


def errors(root):
    return [str(finding) for finding in verify_source(str(root))[0].fatal]


@pytest.mark.parametrize(
    "name", ["mask-bob.tif", "mask-bob.nii.bz2", "mask-dr.who", "image-t2.tif"]
)
def test_a_mask_or_image_of_another_kind_is_no_missing_one(name, root):
    (root / "case0" / name).write_bytes(b"x")
    (root / "case0" / "mask-bob.png").unlink()
    (error,) = errors(root)
    assert error.startswith(f"{root / 'case0' / name}: called like an image or mask, but cannot")
    assert ".npz, .npy, .png" in error


def test_links_that_lead_nowhere_are_named(root):
    (root / "case0" / "mask-bob.png").unlink()
    (root / "case0" / "mask-bob.png").symlink_to(root / "gone.png")
    (root / "case7").symlink_to(root / "gone")
    case, mask = errors(root)
    assert case.startswith(f"{root / 'case7'}: a link that leads nowhere")
    assert mask.startswith(f"{root / 'case0' / 'mask-bob.png'}: called like an image or mask")


def test_what_lies_beside_an_image_or_mask_under_its_name_is_no_concern(root):
    aside = ("image.json", "mask-bob.png.bak", "notes.txt", "image-notes.txt", "mask-legend.csv")
    for name in aside:
        (root / "case0" / name).write_bytes(b"x")
    (root / "case0" / "image-dicom").mkdir()
    (root / "case0" / "mask-bob").mkdir()
    assert errors(root) == []


@pytest.mark.parametrize("kind", ["png", "hdf5", "pickle"])
def test_hidden_files_are_no_files_of_a_source(kind, tmp_path):
    content, root = files.cases(3), tmp_path / "source"
    if kind == "pickle":
        root.mkdir()
        files.write_pickle(root / "data.pkl", content)
    else:
        {"png": files.write_png, "hdf5": files.write_hdf5}[kind](root, content)
    count = len(read_dataset(str(root)).notes["findings"])
    (root / ".trash").mkdir()
    for path in [path for path in root.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"x")
        (root / ".trash" / path.name).write_bytes(b"x")
    (root / "._data.pkl").write_bytes(b"x")
    dataset = read_dataset(str(root))
    assert (len(dataset), len(dataset.notes["findings"])) == (3, count)


def test_hidden_files_are_no_slices(tmp_path):
    write_series(tmp_path, np.zeros((3, 8, 8), np.int16))
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"._{path.name}").write_bytes(b"x")
    assert read_series(tmp_path, Findings()).shape[0] == 3


@pytest.mark.parametrize("name", ["stray.pkl", "case1/stray.h5"])
def test_kinds_that_lie_together_are_told_apart_by_nobody(name, root):
    (root / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"{name} beside folders of cases: which .* is not known"):
        read_dataset(str(root))


def test_hdf5_files_and_pickles_are_not_read_together(tmp_path):
    files.write_hdf5(tmp_path, files.cases(3))
    files.write_pickle(tmp_path / "x.pickle", files.cases(3))
    with pytest.raises(DataError, match=r"testing/Sample_2_slice_7.h5 beside x.pickle"):
        read_dataset(str(tmp_path))


@pytest.mark.parametrize("old", ["case0/mask-ann.png", "case0", ""])
def test_names_that_are_not_utf8_are_one_line(old, root):
    odd = Path(os.fsdecode(os.fsencode(root / old) + b"\xff.png"))
    try:
        (root / old).rename(odd)
    except OSError:
        pytest.skip("this file system knows no such names")
    source = root if old else odd
    done = run("data", "verify", source)
    assert done.exit_code == (1 if old else 2)
    assert "must be a name in UTF-8. Received: b'" in done.output
    assert "\\xff.png'" in done.output


def test_one_rater_in_two_spellings_is_one(root, tmp_path):
    (root / "case0" / "mask-ann.png").rename(root / "case0" / "mask-Zo\u00eb.png")
    (root / "case1" / "mask-ann.png").rename(root / "case1" / "mask-Zoe\u0308.png")
    (root / "case2" / "mask-ann.png").rename(root / "case2" / "mask-Zo\u00eb .png")
    dataset = read_dataset(str(root))
    assert dataset.raters == ("Zo\u00eb", "bob", "cy")
    assert dataset.annotated[:, 0].all()
    (root / "case2" / "mask-bob.png").rename(root / "case2" / "mask-Zoe\u0308.png")
    assert "case case2 has 2 masks of rater Zo\u00eb" in errors(root)[0]


def test_one_patient_in_two_spellings_is_one(tmp_path):
    path = files.write_manifest(tmp_path, files.cases())
    text = path.read_text().replace("case0,p0,", "case0,Zo\u00eb,")
    path.write_text(text.replace("case1,p0,", "case1,Zoe\u0308,"))
    assert len(set(read_dataset(str(path)).patients.tolist())) == 3


@pytest.mark.parametrize("pattern", ["*", "*/*.h5"])
def test_a_folder_that_cannot_be_listed_is_not_passed_over(pattern, tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.h5").touch()
    real = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    folder = tmp_path if "/" in pattern else tmp_path / "closed"
    with pytest.raises(PermissionError, match="closed"):
        visible(folder, pattern)


def test_folders_that_hold_no_case_are_noted(root):
    (root / "case8" / "study").mkdir(parents=True)
    (root / "_case9").mkdir()
    notes = [str(item) for item in verify_source(str(root))[0].items]
    assert any(f"{root / 'case8'}: a folder without image or mask" in note for note in notes)
    assert any(f"{root / '_case9'}: a folder that is passed over" in note for note in notes)


def test_suffixes_are_known_in_either_case(tmp_path):
    files.write_hdf5(tmp_path, files.cases(6))
    for path in list(tmp_path.glob("training_2d/*.h5")):
        path.rename(path.with_suffix(".H5"))
    assert len(read_dataset(str(tmp_path))) == 6


def test_colours_of_16_bits_are_refused(root):
    """Pillow would keep the upper 8 of them without a word."""
    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(32 * (1 + 32 * 6)))
    path = root / "case0" / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    ))  # fmt: skip
    text = "must be of 8 bits, or of 16 and one channel. Received: 16 bits in colour"
    with pytest.raises(DataError, match=text):
        read_dataset(str(root))
    Image.fromarray(np.full((32, 32), 60_000, np.uint16)).save(path)
    assert "16 bits" not in " ".join(errors(root))

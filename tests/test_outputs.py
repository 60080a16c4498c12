"""What is written is what was predicted, in place: NIfTI, PNG, npz, DICOM-SEG."""

import shutil
from dataclasses import replace

import highdicom
import nibabel
import numpy as np
import pytest
import source_files as files
from dicom_files import write_series
from PIL import Image
from tiny_model import tiny

from keras_proseg.config import (
    DataConfig,
)
from keras_proseg.data.places import Place, Volume, resize
from keras_proseg.data.sources import read_dataset
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.outputs.masks import save_masks
from keras_proseg.outputs.writers import plain_names


@pytest.fixture(scope="module")
def content():
    return files.cases()


def predicted(model, dataset):
    """(N, R, H, W, K) bool."""
    return model.rater_moments(np.asarray(dataset.images))[0] > 0.5


def test_nifti_masks_come_back_as_a_source(tiny_model, content, tmp_path):
    path = files.write_manifest(tmp_path / "in", content, volume=3)
    dataset = read_dataset(str(path))
    written = save_masks(tiny_model, dataset, tmp_path / "out")
    assert len(written) == 6 * 3
    expected = predicted(tiny_model, dataset)
    for rater in tiny_model.raters:
        saved = nibabel.load(tmp_path / "out" / "case2" / f"mask-{rater}.nii.gz")
        np.testing.assert_allclose(saved.affine, files.AFFINE, atol=1e-6)
        np.testing.assert_allclose(saved.header.get_zooms(), (0.6, 0.7, 2.5), rtol=1e-6)
        found = np.moveaxis(np.asarray(saved.dataobj), 2, 0)
        np.testing.assert_array_equal(
            found, expected[6:9, tiny_model.raters.index(rater), ..., 0]
        )  # fmt: skip
        image = tmp_path / "in" / "images" / "case2.nii.gz"
        files.save_nifti(
            tmp_path / "out" / "case2" / "image.nii.gz", np.asarray(nibabel.load(image).dataobj)
        )
    for case in (0, 1, 3, 4, 5):
        shutil.rmtree(tmp_path / "out" / f"case{case}")
    again = read_dataset(str(tmp_path / "out"))
    np.testing.assert_array_equal(again.masks, expected[6:9])


def test_masks_of_several_structures_are_told_apart_by_name(content, tmp_path):
    files.write_qubiq(tmp_path / "in", content, structures=2)
    dataset = read_dataset(str(tmp_path / "in")).take([0])
    model = tiny(num_classes=2, views=1)
    written = save_masks(model, dataset, tmp_path / "out")
    structures = ("task01", "task02")
    names = {f"mask-{rater}-{s}.nii.gz" for rater in model.raters for s in structures}
    assert {path.name for path in written} == names
    expected = predicted(model, dataset)[0]
    assert (expected[..., 0] != expected[..., 1]).any()
    for r, rater in enumerate(model.raters):
        for k, structure in enumerate(structures):
            saved = nibabel.load(written[0].with_name(f"mask-{rater}-{structure}.nii.gz"))
            np.testing.assert_array_equal(np.asarray(saved.dataobj), expected[r, ..., k])


def test_masks_of_cropped_and_resampled_cases_lie_in_place(tiny_model, content, tmp_path):
    path = files.write_manifest(tmp_path / "in", content)
    cropped = read_dataset(str(path), DataConfig(fit="crop", size=24))
    save_masks(tiny_model, cropped, tmp_path / "out")
    whole = np.asarray(nibabel.load(tmp_path / "out" / "case3" / "mask-cy.nii.gz").dataobj)
    assert whole.shape == (32, 32)
    np.testing.assert_array_equal(whole[4:28, 4:28], predicted(tiny_model, cropped)[3, 2, ..., 0])
    whole[4:28, 4:28] = 0
    assert not whole.any()
    padded = read_dataset(str(path), DataConfig(fit="crop", size=40))
    save_masks(tiny_model, padded, tmp_path / "padded")
    whole = np.asarray(nibabel.load(tmp_path / "padded" / "case3" / "mask-cy.nii.gz").dataobj)
    expected = predicted(tiny_model, padded)[3, 2, 4:36, 4:36, 0]
    np.testing.assert_array_equal(whole, expected)


def test_resampling_there_and_back_moves_nothing():
    """A disc drawn on a finer grid comes back at its centre and with its area."""
    rows, columns = np.mgrid[:60, :60]
    fine = (np.hypot(rows - 40, columns - 24) < 10).astype(float)
    place = Place(Volume("x", ".nii", (1, 30, 30), "x"), 0, (60, 60))
    back = place.restore(fine) > 0.5
    np.testing.assert_allclose(np.argwhere(back).mean(axis=0), [19.75, 11.75], atol=0.2)
    assert back.sum() == pytest.approx(np.pi * 25, rel=0.1)


def test_images_are_averaged_where_they_shrink():
    stripes = np.zeros((16, 16))
    stripes[:, ::4] = 1  # one column of four: its share is what is left of it
    np.testing.assert_allclose(resize(stripes, (16, 4))[:, 1:-1], 0.25, atol=0.07)
    assert not resize(stripes, (16, 4), smooth=False).any()
    ramp = np.arange(8.0)[:, None] * np.ones((1, 3))
    # Of pixels 1 to 6: a triangle of weights 1/4, 3/4, 3/4, 1/4 about the edge between two.
    halved = (ramp[1:5] + 3 * ramp[2:6] + 3 * ramp[3:7] + ramp[4:8])[::2] / 8
    np.testing.assert_allclose(resize(ramp, (4, 3))[1:-1], halved, rtol=1e-6)


def test_png_and_npz_masks(tiny_model, content, tmp_path):
    root = files.write_png(tmp_path / "in", content)
    dataset = read_dataset(str(root))
    save_masks(tiny_model, dataset, tmp_path / "out")
    expected = predicted(tiny_model, dataset)
    with Image.open(tmp_path / "out" / "case4" / "mask-bob.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected[4, 1, ..., 0] * 255)
    path = files.write_pickle(tmp_path / "data.pickle", content)
    dataset = read_dataset(str(path), DataConfig(rater_order="given"))
    (written,) = save_masks(tiny_model, dataset, tmp_path / "npz")
    stored = np.load(written)
    np.testing.assert_array_equal(stored["masks"], predicted(tiny_model, dataset))
    assert stored["case_ids"].tolist() == list(content)
    assert stored["rater_ids"].tolist() == list(tiny_model.raters)
    assert not stored["offsets"].any()
    assert (stored["shapes"] == 32).all()


def test_npz_masks_of_cropped_cases_say_where_they_lie(tiny_model, content, tmp_path):
    path = files.write_pickle(tmp_path / "data.pickle", content)
    config = DataConfig(rater_order="given", fit="crop", size=24)
    cropped = read_dataset(str(path), config)
    (written,) = save_masks(tiny_model, cropped, tmp_path / "npz")
    stored = np.load(written)
    (row, column), (height, width) = stored["offsets"][3], stored["sizes"][3]
    assert (height, width) == tuple(stored["shapes"][3]) == (32, 32)
    image = read_dataset(str(path)).images[3, row : row + 24, column : column + 24]
    np.testing.assert_array_equal(image, cropped.images[3])


def test_raters_whose_names_are_alike_in_a_file_keep_one_each():
    assert plain_names(["a b", "a/b", "A_b", "ann"]) == ["a_b", "a_b-2", "A_b-3", "ann"]
    assert plain_names(["a b", "a_b-2", "a_b"]) == ["a_b", "a_b-2", "a_b-3"]


def test_a_case_may_not_leave_the_folder(tiny_model, tmp_path):
    content = {"a": next(iter(files.cases(1).values()))}
    dataset = read_dataset(str(files.write_manifest(tmp_path / "in", content)))
    (place,) = dataset.places
    plain, short = "a plain name. Received: ", "a name of 255 bytes at most"
    for name, words in (("../../a", plain), ("a\0b", plain), ("/a", plain), ("x" * 300, short)):
        dataset.places[0] = replace(place, volume=replace(place.volume, case_id=name))
        with pytest.raises(ProSegError, match=words):
            save_masks(tiny_model, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        save_masks(tiny_model, dataset, tmp_path / "full")


@pytest.fixture
def series(tmp_path):
    """A series of 5 slices whose discs wander, in HU."""
    rows, columns = np.mgrid[:32, :32]
    discs = np.stack([np.hypot(rows - 10 - 2 * z, columns - 14) < 7 for z in range(5)])
    return write_series(tmp_path / "series", (discs * 100).astype(np.int16)), discs * 100


def segments(path, source, where):
    """What a viewer would lay over the slices: (Z, H, W, L)."""
    seg = highdicom.seg.segread(path)
    shown = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    uids = [one.ReferencedSOPInstanceUID for one in shown]
    found = seg.get_pixels_by_source_instance(uids)  # (Z, H, W, L)
    assert found.any(axis=(0, 2)).argmax(axis=0).tolist() == [0, 1, 2, 3]

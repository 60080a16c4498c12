"""The geometry of a NIfTI is that of what is written for it."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
import source_files as files
from test_cli import run

from keras_proseg.data.formats.volumes import read_pixels
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.sources import read_dataset
from keras_proseg.errors import ProSegError
from keras_proseg.outputs.writers import write_nifti

SHEARED = files.AFFINE + np.array([[0.1, 0, 0, 0], [0, 0.2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def save(path, array, affine, sform, qform, unit, other=None):
    """A file whose qform is `other`, if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine if other is None else other, qform)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("affine", "sform", "qform", "unit"),
    [
        (files.AFFINE, 1, 1, "mm"),
        (files.AFFINE, 4, 0, "micron"),
        (files.AFFINE, 0, 1, "mm"),
        (SHEARED, 2, 0, "unknown"),
        (np.diag([-0.5, 0.6, 2.0, 1.0]), 0, 0, "meter"),
    ],
)
def test_what_is_written_lies_where_the_image_does(affine, sform, qform, unit, tmp_path):
    array = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    path = save(tmp_path / "in.nii", array, affine, sform, qform, unit)
    source = read_pixels(path)
    write_nifti(tmp_path / "out.nii", np.moveaxis(array, 2, 0), source, False)
    before, after = nibabel.load(path), nibabel.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(np.asarray(after.dataobj), array)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms(), rtol=1e-5)
    assert after.header["sform_code"] == sform
    assert after.header["qform_code"] == (0 if sform else qform)
    assert after.header.get_xyzt_units()[0] == unit
    again = read_pixels(tmp_path / "out.nii")
    assert again.spacing == pytest.approx(source.spacing)


def test_of_two_positions_the_one_in_force_is_kept(tmp_path):
    array, scanner = np.zeros((4, 5, 3), np.uint8), np.diag([1.0, 1, 1, 1])
    source = read_pixels(save(tmp_path / "in.nii", array, files.AFFINE, 4, 1, "mm", scanner))
    write_nifti(tmp_path / "out.nii", np.moveaxis(array, 2, 0), source, False)
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii").affine, files.AFFINE, atol=1e-6)


def with_sform(path, array, affine):
    """A file whose sform no library would write."""
    save(path, array, files.AFFINE, 2, 0, "mm")
    content = bytearray(path.read_bytes())
    content[280:328] = np.asarray(affine)[:3].astype("<f4").tobytes()
    path.write_bytes(content)
    return path


def test_a_degenerate_affine_is_named(tmp_path):
    image, masks = files.cases(1)["case0"]
    for name, array in (("image", image), ("mask-ann", masks["ann"])):
        with_sform(tmp_path / "s" / "a" / f"{name}.nii", array, np.diag([0, 0.7, 1, 1]))
    done = run("data", "verify", tmp_path / "s")
    assert done.exit_code == 1
    assert "image.nii: its affine must be one with an inverse" in done.output


def test_a_single_slice_may_leave_its_third_axis_out(tmp_path):
    array = np.zeros((4, 5), np.uint8)
    source = read_pixels(with_sform(tmp_path / "in.nii", array, np.diag([0.6, 0.7, 0, 1])))
    assert source.spacing == pytest.approx((0.6, 0.7))
    write_nifti(tmp_path / "out.nii", array[None], source, True)
    found = nibabel.load(tmp_path / "out.nii")
    assert found.shape == (4, 5)
    np.testing.assert_allclose(found.affine, np.diag([0.6, 0.7, 1, 1]), atol=1e-6)


def test_spacing_is_in_mm_and_kept_by_a_prepared_file(tmp_path):
    image, masks = files.cases(1)["case0"]
    save(tmp_path / "s" / "a" / "image.nii", image, files.AFFINE * 1000, 1, 0, "micron")
    save(tmp_path / "s" / "a" / "mask-ann.nii", masks["ann"], files.AFFINE, 1, 0, "mm")
    dataset = read_dataset(str(tmp_path / "s"))  # the same place, said in two units
    np.testing.assert_allclose(dataset.spacing, [[0.6, 0.7]], rtol=1e-6)
    write_prepared(dataset, tmp_path / "data")
    volume = load_prepared([tmp_path / "data"]).places[0].volume
    assert volume == dataset.places[0].volume
    assert (volume.codes, volume.unit) == ((1, 0), "micron")


def test_sides_without_a_position_are_a_spacing_unless_nothing_was_said(tmp_path):
    array = np.zeros((4, 5, 3), np.uint8)
    said = save(tmp_path / "a.nii", array, np.diag([0.5, 0.6, 1, 1]), 0, 0, "mm")
    assert read_pixels(said).spacing == pytest.approx((0.5, 0.6))
    assert read_pixels(save(tmp_path / "b.nii", array, np.eye(4), 0, 0, "mm")).spacing is None
    assert read_pixels(save(tmp_path / "c.nii", array, np.eye(4), 1, 0, "mm")).spacing == (1, 1)
    np.save(tmp_path / "d.npy", array)
    assert read_pixels(tmp_path / "d.npy").spacing is None


def test_kinds_whose_axes_differ_are_told(tmp_path):
    from PIL import Image

    image, masks = files.cases(1)["case0"]
    files.save_nifti(tmp_path / "a" / "image.nii", image)
    Image.fromarray(masks["ann"] * 255).save(tmp_path / "a" / "mask-ann.png")
    done = run("data", "verify", tmp_path)
    assert done.exit_code == 0, done.output
    assert "a .png beside a .nii" in done.output


def test_a_compressed_file_is_read_to_its_checksum(tmp_path):
    """Voxels changed on the way would be taken for the image."""
    array = np.random.default_rng(0).integers(0, 9000, (16, 16, 4)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", array, files.AFFINE, 1, 1, "mm")
    np.testing.assert_array_equal(read_pixels(path).array, array)
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]):
        path.write_bytes(damaged)
        with pytest.raises(ProSegError, match=r"must be a whole .nii.gz file. Received: "):
            read_pixels(path)
    path.write_bytes(whole + b"what a copy left behind its end")
    np.testing.assert_array_equal(read_pixels(path).array, array)
    plain = save(tmp_path / "b.nii", array, files.AFFINE, 1, 1, "mm")
    np.testing.assert_array_equal(read_pixels(plain).array, array)


QUIET = """
import sys, nibabel
from keras_proseg.data.formats.volumes import read_pixels
before = list(nibabel.imageglobals.logger.handlers)
read_pixels(sys.argv[1])
assert nibabel.imageglobals.logger.handlers == before
"""


def test_what_nibabel_mends_by_itself_is_no_line_of_ours(tmp_path):
    """In a process of its own: pytest takes what is logged."""
    path = save(tmp_path / "a.nii", np.zeros((4, 5, 3), np.uint8), files.AFFINE, 1, 1, "mm")
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(-1).tobytes()  # pixdim[1]
    path.write_bytes(content)
    command = [sys.executable, "-c", QUIET, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

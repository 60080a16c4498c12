import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from PIL import Image

from keras_proseg import memory
from keras_proseg.data.formats.image_file import read_image
from keras_proseg.data.places import resize
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.outputs.sample_file import sample_file
from keras_proseg.outputs.sample_writing import sample_labels, write_kind
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, write_json

IMAGE = np.random.default_rng(0).normal(0, 10, (20, 30)).astype("float32")


def test_nifti_comes_back_in_place(tiny_run, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SAMPLE_VALUES", 1)  # a slice at a time
    affine = np.diag([0.7, 0.6, 2.5, 1.0])
    affine[:3, 3] = (5, -7, 11)
    volume = np.stack([IMAGE, IMAGE + 5], axis=2)
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "ct.nii.gz")
    files = sample_file(tiny_run.path, tmp_path / "ct.nii.gz", tmp_path / "out", "ann", 2)
    masks = nibabel.load(tmp_path / "out" / "masks_sample001.nii.gz")
    np.testing.assert_allclose(masks.affine, affine)
    assert masks.shape == (20, 30, 2)
    assert len(files) == 5
    again = nibabel.load(tmp_path / "out" / "probabilities_sample001.nii.gz")
    np.testing.assert_array_equal(again.get_fdata() > 0.5, masks.get_fdata() > 0)
    at_once = tiny_model.sample(np.moveaxis(volume, 2, 0)[..., None], "ann", 2, 0)
    found = np.moveaxis(again.get_fdata(), 2, 0)
    np.testing.assert_allclose(found, at_once[:, 0, ..., 0], atol=1e-5)


@pytest.fixture
def coarse_run(tiny_run, tmp_path):
    """The tiny run, as if it had been trained at 1.4 mm per pixel."""
    shutil.copytree(tiny_run.path, tmp_path / "run")
    config = read_json(tmp_path / "run" / "config.json")
    config["train"]["spacing"] = 1.4
    write_json(tmp_path / "run" / "config.json", config)
    return tmp_path / "run"


def test_an_image_is_seen_at_the_spacing_of_the_training(coarse_run, tiny_model, tmp_path):
    coarse = np.kron(IMAGE, np.ones((2, 2), "float32"))[..., None]
    nibabel.save(nibabel.Nifti1Image(coarse, np.diag([0.7, 0.7, 2, 1])), tmp_path / "ct.nii")
    sample_file(coarse_run, tmp_path / "ct.nii", tmp_path / "out", "ann", 2, seed=3)
    found = nibabel.load(tmp_path / "out" / "probabilities_sample002.nii")
    assert found.shape == (40, 60, 1)
    np.testing.assert_allclose(found.header.get_zooms(), (0.7, 0.7, 2), rtol=1e-6)
    seen = resize(coarse, (20, 30))
    expected = resize(tiny_model.sample(seen, "ann", 2, 3)[1], (40, 60))
    np.testing.assert_allclose(found.get_fdata(), expected, atol=1e-5)
    spacing = np.full((2, 2), 0.7)
    np.savez(tmp_path / "ct.npz", images=np.stack([coarse, coarse + 1]), spacing=spacing)
    sample_file(coarse_run, tmp_path / "ct.npz", tmp_path / "npz", "ann", 2, seed=3)
    found = np.load(tmp_path / "npz" / "probabilities.npz")["probabilities"]
    np.testing.assert_allclose(found[0, 1], expected, atol=1e-5)
    for odd in (spacing * [[1], [2]], spacing * np.nan, spacing[0]):
        np.savez(tmp_path / "ct.npz", images=np.stack([coarse, coarse + 1]), spacing=odd)
        assert read_image(tmp_path / "ct.npz").spacing is None
    np.save(tmp_path / "ct.npy", IMAGE)
    with pytest.warns(UserWarning, match=r"ct.npy: no pixel spacing of all is.*at 1.4 mm -> use"):
        sample_file(coarse_run, tmp_path / "ct.npy", tmp_path / "plain", "ann", 2, seed=3)
    plain = np.load(tmp_path / "plain" / "probabilities.npy")
    expected = tiny_model.sample(IMAGE[..., None], "ann", 2, 3)
    # Two models are two graphs, whose sums may be in another order.
    np.testing.assert_allclose(plain[0], expected, atol=1e-5)


def test_an_image_that_its_unit_makes_huge_is_refused(coarse_run, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.data.fit.MOST_PIXELS", 100)
    nibabel.save(nibabel.Nifti1Image(IMAGE, np.diag([0.7, 0.7, 2, 1])), tmp_path / "ct.nii")
    text = r"ct.nii: images must be of at most 100 .* 1.4 mm \(look at its .*10x15"
    with pytest.raises(ProSegError, match=text):
        sample_file(coarse_run, tmp_path / "ct.nii", tmp_path / "out")
    nibabel.save(nibabel.Nifti1Image(IMAGE, np.diag([1.4, 1.4, 2, 1])), tmp_path / "as-it-is.nii")
    sample_file(coarse_run, tmp_path / "as-it-is.nii", tmp_path / "out", num_samples=1)


@pytest.mark.parametrize("kind", ["npz", "npy", "png"])
def test_other_kinds(tiny_run, tmp_path, kind):
    path = tmp_path / f"image.{kind}"
    if kind == "npz":
        np.savez(path, images=IMAGE[None, :, :, None])
    elif kind == "npy":
        np.save(path, IMAGE[:1])  # of one row, around which no line can be drawn
    else:
        Image.fromarray(np.clip(IMAGE + 100, 0, 255).astype("uint8")).save(path)
    files = sample_file(tiny_run.path, path, tmp_path / "out", None, 2, seed=1)
    assert {f.name for f in files} >= {"samples.png"}
    assert len(files) == (5 if kind == "png" else 3)
    assert all(f.is_file() for f in files)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.nii", "a.npz"])
def test_damaged_images(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an image")
    with pytest.raises(ProSegError, match="whole"):
        read_image(tmp_path / name)


def test_refused_images(tmp_path, tiny_run):
    np.save(tmp_path / "complex.npy", IMAGE.astype(complex))
    with pytest.raises(ProSegError, match="complex.npy must be of real numbers. Received: dtype"):
        read_image(tmp_path / "complex.npy")
    nibabel.save(nibabel.Nifti1Image(IMAGE[..., None], np.eye(4)), tmp_path / "nowhere.nii")
    with (tmp_path / "nowhere.nii").open("r+b") as file:
        file.seek(280)  # srow_x of the header
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(ProSegError, match=r"nowhere.nii must be placed by finite numbers"):
        read_image(tmp_path / "nowhere.nii")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="must end in"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"an existing file. Received: .*none.dcm"):
        read_image(tmp_path / "none.dcm")
    np.savez(tmp_path / "a.npz", image=IMAGE)
    with pytest.raises(ProSegError, match="array `images`"):
        read_image(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", IMAGE[0])
    with pytest.raises(ProSegError, match=r"\(N, H, W, C\)"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "rgb.npy", np.stack([IMAGE] * 3, axis=-1))
    with pytest.raises(ProSegError, match="rgb.npy"):
        sample_file(tiny_run.path, tmp_path / "rgb.npy", tmp_path / "o")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2, 2)), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ProSegError, match="2-D or 3-D"):
        read_image(tmp_path / "a.nii")


def test_what_is_wrong_with_any_slice_shows_before_one_is_drawn(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SAMPLE_VALUES", 1)
    monkeypatch.setattr(Run, "load_model", lambda *_: pytest.fail("loaded"))
    images = np.stack([IMAGE[..., None]] * 6).astype("float64")
    for value in (np.nan, -1.8e308 / 1.01):  # finite, but not in float32
        images[4, 3, 3] = value
        np.save(tmp_path / "six.npy", images)
        text = r"six.npy: images must be finite and between .*Received: .* in 1 .* first \[4\]"
        with pytest.raises(ProSegError, match=text):
            sample_file(tiny_run.path, tmp_path / "six.npy", tmp_path / "out", None, 1)


def test_an_unknown_rater_is_no_fault_of_the_image(tiny_run, tmp_path):
    np.save(tmp_path / "a.npy", IMAGE)
    with pytest.raises(UsageError, match="^`rater` must be one of ann, bob, cy"):
        sample_file(tiny_run.path, tmp_path / "a.npy", tmp_path / "out", "zoe", 1)


def test_images_of_either_byte_order_are_in_the_machines(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE.astype(">i2"))
    nibabel.save(nibabel.Nifti1Image(IMAGE.astype(">f4"), np.eye(4)), tmp_path / "a.nii")
    for name in ("a.npy", "a.nii"):
        assert read_image(tmp_path / name).images.dtype.isnative


def test_another_file_named_as_a_picture_is_told_as_such(tmp_path):
    (tmp_path / "a.png").write_text("no picture, but long enough to hold a header of one")
    with pytest.raises(ProSegError, match="must be a whole .png file. Received: another kind"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [".png", ".nii"])
def test_each_structure_is_in_a_file_of_its_own(kind, tmp_path):
    values = np.zeros((1, 2, 4, 5, 2), np.float32)
    for s, k in np.ndindex(2, 2):
        values[0, s, 2 * s + k, :, k] = 1  # a row for each
    np.save(tmp_path / "masks.npy", values)
    geometry = SimpleNamespace(affine=np.eye(4), codes=(2, 0), unit="mm")
    source = SimpleNamespace(kind=kind, pixels=geometry, flat=True)
    write_kind(tmp_path, "masks", values, source, sample_labels(values, ["core", "rim"]))
    names = ["sample001_core", "sample001_rim", "sample002_core", "sample002_rim"]
    for row, name in enumerate(names):
        file = tmp_path / f"masks_{name}{kind}"
        found = np.asarray(Image.open(file)) if kind == ".png" else nibabel.load(file).get_fdata()
        assert found.any(axis=1).tolist() == [k == row for k in range(4)], name

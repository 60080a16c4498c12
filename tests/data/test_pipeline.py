import threading
from dataclasses import replace

import keras
import numpy as np
import pytest
from tiny_data import tiny_arrays

from keras_proseg.config import TrainConfig
from keras_proseg.data import pipeline
from keras_proseg.data.augment import augment, draw_augmentation
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.pipeline import BatchReader, training_pipeline
from keras_proseg.data.sequence import TrainingSequence
from keras_proseg.data.warp import warped
from keras_proseg.errors import UsageError


@pytest.fixture
def reader(arrays):
    config = TrainConfig(batch_size=5, seed=3, rotation="any", zoom=0.2)
    return BatchReader(Dataset.from_arrays(**arrays), config)


def test_every_epoch_sees_every_case_once(reader):
    rows = np.concatenate([reader.indices(step) for step in range(24)])
    for epoch in rows.reshape(5, 24):
        assert sorted(epoch) == list(range(24))
    assert (rows[:24] != rows[24:48]).any()


def test_only_the_rows_asked_for_are_read(reader):
    few = BatchReader(reader.dataset, reader.config, rows=np.array([2, 5, 7]))
    rows = np.concatenate([few.indices(step) for step in range(6)])
    assert [sorted(epoch) for epoch in rows.reshape(10, 3)] == [[2, 5, 7]] * 10


def test_a_pipeline_started_later_gives_the_same_batches(reader):
    late = next(iter(training_pipeline(reader, 3, True)))
    batches = iter(training_pipeline(reader, 0, True))
    early = [next(batches) for _ in range(4)][3]
    for name in ("image", "masks", "annotated"):
        np.testing.assert_array_equal(early[name], late[name])


@pytest.mark.parametrize("rotation", ["any", "quarter"])
def test_masks_move_with_the_image(rotation):
    """An image that is its own mask stays so: one map for both."""
    disc = np.zeros((8, 33, 33, 1), np.float32)
    disc[:, 8:18, 12:26] = 1
    draws = draw_augmentation([0], 8, 33, 33, rotation, zoom=0.0)
    draws |= {"gain": np.float32(1), "shift": np.float32(0)}
    masks = disc[:, None].astype(np.uint8)
    batch = augment({"image": disc, "masks": masks, "annotated": np.ones((8, 1), bool)} | draws)
    image, mask = np.asarray(batch["image"]), np.asarray(batch["masks"])[:, 0]
    np.testing.assert_allclose(image, mask, atol=1e-5)
    np.testing.assert_allclose(mask.sum(axis=(1, 2, 3)), 140, rtol=0.005)
    assert len({m.tobytes() for m in mask}) >= (8 if rotation == "any" else 4)


def test_zoom_scales_areas_by_its_square():
    rows, columns = np.mgrid[:65, :65] - 32
    disc = np.repeat((rows**2 + columns**2 < 100)[None, ..., None], 400, axis=0)
    draws = draw_augmentation([2], 400, 65, 65, "quarter", zoom=0.25)
    draws |= {"gain": np.float32(1), "shift": np.float32(0)}
    batch = {"image": disc.astype("float32"), "masks": disc[:, None].astype("uint8")}
    moved = augment(batch | {"annotated": np.ones((400, 1), bool)} | draws)["masks"]
    factor = np.log(np.asarray(moved).sum(axis=(1, 2, 3, 4)) / disc[0].sum()) / 2
    # 400 draws: four standard errors.
    assert abs(factor.mean()) < 0.05
    assert abs(factor.std() - 0.25) < 0.036


def test_quarter_turns_are_numpys():
    image = np.random.default_rng(0).normal(size=(16, 9, 9, 1)).astype("float32")
    draws = draw_augmentation([1], 16, 9, 9, "quarter", zoom=0.0)
    draws |= {"gain": np.float32(1), "shift": np.float32(0)}
    masks = (image > 0)[:, None].astype("uint8")
    batch = augment({"image": image, "masks": masks, "annotated": np.ones((16, 1), bool)} | draws)
    found = set()
    for before, after in zip(image, np.asarray(batch["image"]), strict=True):
        turned = [np.rot90(b, k) for b in (before, before[:, ::-1]) for k in range(4)]
        fits = [np.allclose(after, t, atol=1e-4) for t in turned]
        assert sum(fits) == 1
        found.add(fits.index(True))
    assert len(found) >= 6


@pytest.mark.parametrize(
    ("rotation", "zoom", "width"),
    [("quarter", 0.0, 40), ("quarter", 0.0, 24), ("any", 0.0, 40), ("any", 0.3, 31)],
)
def test_the_warp_is_the_affine_transform_of_keras(rotation, zoom, width):
    rng = np.random.default_rng(2)
    images = rng.normal(size=(32, 40, width, 2)).astype("float32")
    masks = rng.integers(0, 2, (32, 3, 40, width, 2)).astype("uint8")
    transforms = draw_augmentation([3], 32, 40, width, rotation, zoom)["transform"]
    if zoom:
        transforms[0, :6] *= 4  # mirrored at an edge several times
    layers = np.moveaxis(masks, 1, 3).reshape(32, 40, width, 6)
    together = np.concatenate([images, layers], axis=-1, dtype="float32")
    expected = keras.ops.image.affine_transform(together, transforms, "bilinear", "reflect")
    expected = keras.ops.convert_to_numpy(expected)
    for image, own, transform, wanted in zip(images, masks, transforms, expected, strict=True):
        image, own = warped(image, own, transform)
        np.testing.assert_allclose(image, wanted[..., :2], atol=1e-3)
        own = np.moveaxis(own, 0, 2).reshape(40, width, 6)
        np.testing.assert_allclose(own, wanted[..., 2:], atol=1e-3)


def test_an_image_of_one_row_is_warped():
    image, masks = np.arange(6.0).reshape(1, 6, 1), np.ones((2, 1, 6, 1), "uint8")
    half_a_pixel = np.array([1, 0, 0.5, 0, 1, 0, 0, 0], "float32")
    moved, own = warped(image, masks, half_a_pixel)
    np.testing.assert_allclose(moved[0, :, 0], [0.5, 1.5, 2.5, 3.5, 4.5, 5])
    np.testing.assert_array_equal(own, masks)


def test_both_feeds_give_equal_batches_for_equal_seeds(reader):
    quarter = BatchReader(reader.dataset, replace(reader.config, rotation="quarter", zoom=0.0))
    for each in (quarter, reader):
        sequence, fed = TrainingSequence(each, 2, True), iter(training_pipeline(each, 2, True))
        for step, batch in zip(range(3), fed, strict=False):
            own = sequence[step]
            assert set(own) == set(batch)
            for name, column in batch.items():
                np.testing.assert_array_equal(own[name], column)
            assert each is reader or set(np.unique(own["masks"])) == {0, 1}
    other = TrainingSequence(BatchReader(reader.dataset, replace(reader.config, seed=4)), 2, True)
    assert (other[0]["image"] != sequence[0]["image"]).any()


def test_from_a_step_on_pixels_are_no_longer_interpolated(reader):
    quarter = BatchReader(reader.dataset, replace(reader.config, rotation="quarter", zoom=0.0))
    finishing = BatchReader(reader.dataset, reader.config)
    finishing.exact_from = 2.5
    for step, like in ((2, reader), (3, quarter)):
        for name, value in finishing.augmentation(step).items():
            np.testing.assert_array_equal(value, like.augmentation(step)[name])
    image = TrainingSequence(finishing, 3, True)[0]["image"]
    raw = reader.batch(3)["image"]
    kept = (image - image.mean((1, 2, 3), keepdims=True)) / image.std((1, 2, 3), keepdims=True)
    own = (raw - raw.mean((1, 2, 3), keepdims=True)) / raw.std((1, 2, 3), keepdims=True)
    # The same pixels elsewhere, but for contrast and brightness.
    np.testing.assert_allclose(np.sort(kept.reshape(5, -1)), np.sort(own.reshape(5, -1)), atol=1e-4)


def test_the_finish_is_a_share():
    for wrong in (-0.1, 1.0):
        with pytest.raises(UsageError, match="`finish` must be at least 0 and below 1. Received"):
            TrainConfig(finish=wrong)


def test_nothing_is_read_once_the_interpreter_ends(reader, monkeypatch):
    monkeypatch.setattr(pipeline, "_ENDING", threading.Event())
    first = TrainingSequence(reader, 0, True)[0]
    fed = iter(training_pipeline(reader, 0, True))
    assert (next(fed)["image"] == first["image"]).numpy().all()
    pipeline._end_reading()
    monkeypatch.setattr(reader, "batch", None)
    rest = [next(fed)["image"].numpy() for _ in range(6)]  # some of them were read ahead
    np.testing.assert_array_equal(rest[-1], first["image"])


def test_augmentation_off_gives_the_raw_cases(reader):
    batch = next(iter(training_pipeline(reader, 0, False)))
    rows = reader.indices(0)
    np.testing.assert_array_equal(batch["image"], reader.dataset.images[rows])
    np.testing.assert_array_equal(batch["masks"], reader.dataset.masks[rows])


def test_intensities_move_by_the_images_own_spread_about_its_mean():
    image = np.random.default_rng(0).normal(5, 1, (4, 9, 9, 1)).astype("float32")
    rest = {"masks": np.ones((4, 1, 9, 9, 1), "uint8"), "annotated": np.ones((4, 1), bool)}
    rest |= draw_augmentation([0], 4, 9, 9, "quarter", 0.0)
    changed, axes = augment(rest | {"image": image})["image"], (1, 2, 3)
    spread = image.std(axes)
    shift = rest["shift"].ravel() * spread
    np.testing.assert_allclose(changed.mean(axes), image.mean(axes) + shift, rtol=1e-4)
    np.testing.assert_allclose(changed.std(axes), spread * rest["gain"].ravel(), rtol=1e-4)
    draws = draw_augmentation([0], 400, 9, 9, "quarter", 0.0)
    for name, mean in (("gain", 1), ("shift", 0)):  # each image has its own
        assert draws[name].mean() == pytest.approx(mean, abs=0.02)
        assert draws[name].std() == pytest.approx(0.1, abs=0.015)


def test_channels_of_other_units_move_each_by_its_own_spread():
    image = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype("float32")
    image = image * np.float32([200, 1e-4]) + np.float32([500, 1e-3])
    rest = {"masks": np.ones((4, 1, 9, 9, 1), "uint8"), "annotated": np.ones((4, 1), bool)}
    rest |= draw_augmentation([0], 4, 9, 9, "any", 0.1)
    both = augment(rest | {"image": image})["image"]
    for k in (0, 1):
        alone = augment(rest | {"image": image[..., k : k + 1]})["image"]
        np.testing.assert_allclose(both[..., k : k + 1], alone, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 41), (32, 64), (21, 9)])
def test_quarter_turns_of_an_oblong_keep_all_of_it(height, width):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (16, 2, height, width, 1)).astype("uint8")
    draws = draw_augmentation([4], 16, height, width, "quarter", 0.0)
    image = masks[:, 0].astype("float32")
    moved = augment({"image": image, "masks": masks, "annotated": np.ones((16, 2), bool)} | draws)
    flips = set()
    for before, after in zip(masks[:, 0], moved["masks"][:, 0], strict=True):
        ways = [before[::a, ::b] for a in (1, -1) for b in (1, -1)]
        fits = [np.array_equal(after, way) for way in ways]
        assert sum(fits) == 1
        flips.add(fits.index(True))
    assert flips == {0, 1, 2, 3}


def test_order_and_augmentation_follow_seed_and_step():
    dataset = Dataset.from_arrays(**tiny_arrays(6, size=8))
    one, two = (BatchReader(dataset, TrainConfig(seed=seed)) for seed in (1, 2))
    turns = [r.augmentation(k)["transform"] for r, k in ((one, 0), (one, 1), (two, 0))]
    assert (turns[0] != turns[1]).any()
    assert (turns[0] != turns[2]).any()
    assert any((one.indices(k) != two.indices(k)).any() for k in range(3))

"""The simulated CT follows the ratings and the outlines, and is the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from keras_proseg.config import PhantomConfig
from keras_proseg.data.lidc.character import SOFT_TISSUE, Character
from keras_proseg.data.lidc.phantom import LUNG, render
from keras_proseg.data.lidc.stack import Stack, scanner_noise, smooth_noise

RATINGS = {
    "subtlety": 5,
    "internalStructure": 1,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 1,
    "spiculation": 1,
    "texture": 5,
    "malignancy": 3,
}
PLAIN = PhantomConfig(noise_hu=1, vessels=0, attached=0, blobs=0, walls=0, edge_shift=0)


def disc(radius, size=128):
    row, column = np.indices((size, size)) - size / 2
    return np.hypot(row, column) < radius


def discs(*radii, slices=3):
    return np.stack([np.stack([disc(radius) for radius in radii])] * slices)


def draw(key="P/n0", masks=None, config=PLAIN, **ratings):
    masks = discs(8, 8, 8, 8) if masks is None else masks
    every = [RATINGS | ratings] * masks.shape[1]
    return render(key, masks, np.arange(len(masks)) * 1.5, 0.7, 1.5, every, config)


def middle(image, radius=4):
    return float(image[:, disc(radius)].mean())


def test_units_shape_and_range():
    image = draw(config=PhantomConfig())
    assert (image.shape, image.dtype) == ((3, 128, 128), np.int16)
    assert image.min() >= -1024
    assert image.max() <= 3071


def test_same_nodule_same_pixels_other_nodule_others():
    config = PhantomConfig()
    np.testing.assert_array_equal(draw(config=config), draw(config=config))
    assert (draw("P/n1", config=config) != draw(config=config)).mean() > 0.9
    quieter = replace(config, noise_hu=5)
    assert (draw(config=quieter) != draw(config=config)).mean() > 0.5


def test_solid_obvious_nodule_is_soft_tissue_on_lung():
    image = draw()
    assert middle(image) == pytest.approx(SOFT_TISSUE, abs=60)
    outside = image[:, ~disc(12)]
    assert np.median(outside) == pytest.approx(LUNG, abs=120)


def test_subtlety_lowers_contrast():
    levels = [middle(draw(subtlety=rating)) for rating in range(1, 6)]
    assert np.all(np.diff(levels) > 60)


def test_texture_goes_from_ground_glass_to_solid():
    levels = [middle(draw(texture=rating)) for rating in range(1, 6)]
    assert np.all(np.diff(levels) > 40)
    assert levels[0] < -450


def test_margin_softens_the_edge():
    def steepest(margin):
        profile = draw(margin=margin).mean(axis=0)[64].astype(float)
        return np.abs(np.diff(profile)).max()

    assert steepest(1) < 0.75 * steepest(5)


@pytest.mark.parametrize("pattern", [1, 2, 3, 4, 5])
def test_calcium_is_above_soft_tissue(pattern):
    image = draw(calcification=pattern)
    assert image[:, disc(8)].max() > 250
    assert middle(image, 2) > 150 or pattern not in (3, 5)
    assert draw(calcification=6)[:, disc(8)].max() < 250


def test_air_inside_is_dark():
    assert middle(draw(internalStructure=4), 2) < -600


def test_pattern_is_that_of_most_readers_who_saw_one():
    ratings = [RATINGS | {"calcification": c} for c in (6, 3, 5, 3)]
    character = Character.of(ratings)
    assert (character.pattern, character.calcified) == (3, 0.75)
    assert Character.of([RATINGS]).pattern == 6


def test_doubtful_zone_lies_between_but_does_not_give_the_readers_away():
    ring = disc(12) & ~disc(8)
    nested = discs(6, 8, 12, 14)
    levels = np.array([draw(f"P/n{n}", nested)[:, ring].mean() for n in range(12)])
    assert LUNG + 80 < levels.mean() < SOFT_TISSUE - 80
    assert levels.std() > 60, "the same disagreement looks different from nodule to nodule"


def test_without_outline_there_is_no_nodule():
    empty = np.zeros((2, 4, 128, 128), bool)
    image = draw(masks=empty)
    assert abs(middle(image) - np.median(image)) < 60
    assert draw(masks=empty, config=replace(PLAIN, attached=3, blobs=3)).shape == (2, 128, 128)


def test_surroundings_are_there():
    busy = replace(PLAIN, vessels=60)
    for n in range(6):
        quiet, full = draw(f"P/n{n}"), draw(f"P/n{n}", config=busy)
        assert (full > quiet + 150).mean() > 0.001
    walled = [draw(f"P/n{n}", config=replace(PLAIN, walls=1)) for n in range(6)]
    assert all(((w > -200).mean() > 0.05) for w in walled)


def test_noise_has_its_variance_and_is_smooth():
    stack = Stack(128, np.arange(6.0), 1.0, 0.7)
    rng = np.random.default_rng(0)
    noise = np.stack([smooth_noise(rng, stack, 4.0) for _ in range(40)])
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert np.mean(noise[..., 1:] * noise[..., :-1]) > 0.9
    assert abs(np.mean(noise[..., 16:] * noise[..., :-16])) < 0.05
    assert scanner_noise(rng, stack, 30).std() == pytest.approx(30, rel=1e-3)

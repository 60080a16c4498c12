import itertools

import numpy as np
import pytest

from keras_proseg.metrics import diversity
from keras_proseg.metrics.overlap import pairwise_dice, pairwise_iou


def distance(a, b):
    either = np.logical_or(a, b).sum()
    return 0.0 if either == 0 else 1 - np.logical_and(a, b).sum() / either


def mean_distance(a, b, self_pairs=True):
    pairs = [
        distance(x, y)
        for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b))
        if self_pairs or i != j
    ]
    return sum(pairs) / len(pairs)


def ged(samples, masks):
    return diversity.ged(
        pairwise_iou(samples, masks), pairwise_iou(samples, samples), pairwise_iou(masks, masks)
    )


def binary(make_case, **kwargs):
    masks, probabilities = make_case(**kwargs)
    return masks > 0, probabilities > 0.5


@pytest.mark.parametrize("shape", [(14, 11), (8, 7, 9)])
def test_ged_equals_loops(make_case, shape):
    masks, samples = binary(make_case, shape=shape)
    cross, within_s, within_y = (
        mean_distance(*pair) for pair in [(samples, masks), (samples, samples), (masks, masks)]
    )
    unbiased = (
        2 * cross - mean_distance(samples, samples, False) - mean_distance(masks, masks, False)
    )
    got = ged(samples, masks)
    assert got["ged_cross"] == pytest.approx(cross, abs=1e-12)
    assert got["ged_within_samples"] == pytest.approx(within_s, abs=1e-12)
    assert got["ged_within_annotations"] == pytest.approx(within_y, abs=1e-12)
    assert got["ged"] == pytest.approx(2 * cross - within_s - within_y, abs=1e-12)
    assert got["ged_unbiased"] == pytest.approx(unbiased, abs=1e-12)


def test_ged_is_never_negative_and_zero_for_equal_sets():
    # 1 - IoU is of negative type, so the V-statistic cannot fall below 0.
    rng = np.random.default_rng(3)
    for density in rng.random(100):
        samples = rng.random((rng.integers(1, 5), 4, 4)) < density
        masks = rng.random((rng.integers(1, 5), 4, 4)) < rng.random() * density
        assert ged(samples, masks)["ged"] >= -1e-12
        assert ged(masks, masks)["ged"] == pytest.approx(0, abs=1e-12)


def test_unbiased_ged_does_not_depend_on_the_number_of_samples():
    # Six possible masks drawn with replacement: over many draws the U-statistic's mean is the
    # distance of the distributions, while the V-statistic is above it by E d(s, s') / S.
    rng = np.random.default_rng(4)
    pool = rng.random((6, 5, 5)) < 0.5
    masks = pool[:3]
    means, biases = {}, {}
    for count in (2, 8):
        values = [ged(pool[rng.integers(6, size=count)], masks) for _ in range(1500)]
        means[count] = np.mean([v["ged_unbiased"] for v in values])
        biases[count] = np.mean([v["ged"] for v in values])
    assert means[2] == pytest.approx(means[8], abs=0.03)  # above 4 standard errors
    assert biases[2] - biases[8] > 0.15


@pytest.mark.parametrize(("raters", "samples"), [(1, 4), (3, 1), (1, 1)])
def test_unbiased_ged_needs_two_of_each(make_case, raters, samples):
    masks, sampled = binary(make_case, raters=raters, samples=samples)
    got = ged(sampled, masks)
    assert np.isnan(got["ged_unbiased"])
    assert np.isfinite(got["ged"])


def test_dice_max_equals_loops(make_case):
    masks, samples = binary(make_case)
    dice = [[2 * (s & y).sum() / (s.sum() + y.sum()) for y in masks] for s in samples]
    per_sample = np.mean([max(row) for row in dice])
    per_rater = np.mean([max(column) for column in zip(*dice, strict=True)])
    got = diversity.dice_max(pairwise_dice(samples, masks))
    assert got["dice_max_samples"] == pytest.approx(per_sample)
    assert got["dice_max_raters"] == pytest.approx(per_rater)
    assert got["dice_max"] == pytest.approx((per_sample + per_rater) / 2)


@pytest.mark.parametrize(("samples", "raters"), [(5, 3), (3, 3), (2, 4), (1, 3), (4, 1)])
def test_dice_match_equals_all_permutations(samples, raters):
    dice = np.random.default_rng(samples * 10 + raters).random((samples, raters))
    small, large = (dice, raters) if samples <= raters else (dice.T, samples)
    best = max(
        np.mean([small[i, j] for i, j in enumerate(order)])
        for order in itertools.permutations(range(large), len(small))
    )
    assert diversity.dice_match(dice) == pytest.approx(best, abs=1e-14)


def test_dice_soft_equals_loop(make_case):
    masks, probabilities = make_case(raters=4)
    p, y = probabilities.mean(axis=0, dtype=float), masks.mean(axis=0)
    expected = []
    for level in (0.1, 0.3, 0.5, 0.7, 0.9):
        a, b = p > level, y > level
        expected.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert diversity.dice_soft(p, y) == pytest.approx(np.mean(expected))


def test_dice_soft_thresholds_are_strict():
    # Three of ten raters are not more than 0.3: of the levels, only 0.1 sees the pixel.
    y = np.mean([[k < 3] for k in range(10)], axis=0)
    assert diversity.dice_soft(np.zeros(1), y) == pytest.approx(4 / 5)
    assert diversity.dice_soft(y, np.zeros(1)) == pytest.approx(4 / 5)


def components_by_flood_fill(mask):
    left, pieces = set(map(tuple, np.argwhere(mask).tolist())), 0
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    while left:
        pieces, front = pieces + 1, [left.pop()]
        while front:
            here = front.pop()
            near = {tuple(np.add(here, step).tolist()) for step in steps} & left
            left -= near
            front += near
    return pieces


@pytest.mark.parametrize("shape", [(12,), (9, 8), (5, 4, 6)])
def test_fragments_equal_flood_fill(shape):
    rng = np.random.default_rng(5)
    samples, masks = rng.random((4, *shape)) < 0.15, rng.random((3, *shape)) < 0.1
    expected = np.mean([components_by_flood_fill(m) for m in samples])
    expected -= np.mean([components_by_flood_fill(m) for m in masks])
    assert diversity.fragments(samples, masks) == pytest.approx(expected)


def test_a_diagonal_line_is_one_fragment():
    line, empty = np.eye(5, dtype=bool)[None], np.zeros((1, 5, 5), bool)
    assert diversity.fragments(line, empty) == 1
    assert diversity.fragments(empty, line) == -1

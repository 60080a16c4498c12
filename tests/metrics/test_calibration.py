import itertools

import numpy as np
import pytest

from keras_proseg.metrics import calibration


def zone_by_loop(probability, annotation):
    seeds = np.argwhere((annotation > 0) | (probability > 0.1))
    zone = np.zeros(probability.shape, bool)
    for pixel in itertools.product(*map(range, probability.shape)):
        zone[pixel] = any(((seed - pixel) ** 2).sum() <= 25 for seed in seeds)
    return zone


def ece_by_loop(probability, annotation):
    bins = {}
    for p, y in zip(probability, annotation, strict=True):
        bins.setdefault(min(int(p * 15), 14), []).append((p, y))
    gaps = [abs(sum(p for p, _ in b) - sum(y for _, y in b)) for b in bins.values()]
    return sum(gaps) / len(probability)


@pytest.fixture
def maps():
    rng = np.random.default_rng(6)
    probability, annotation = rng.random((30, 25)), rng.integers(0, 5, (30, 25)) / 4
    return probability, annotation, rng.random((30, 25)) < 0.7


@pytest.mark.parametrize("shape", [(80,), (20, 24), (9, 15, 10)])
def test_zone_equals_all_distances(shape):
    rng = np.random.default_rng(7)
    probability = np.where(rng.random(shape) < 4 / np.prod(shape), 0.2, 0.1)
    annotation = (rng.random(shape) < 3 / np.prod(shape)) * 0.25
    zone = calibration.boundary_zone(probability, annotation)
    assert zone.any()
    assert not zone.all()
    np.testing.assert_array_equal(zone, zone_by_loop(probability, annotation))


def test_zone_is_empty_where_nothing_is_marked_or_predicted():
    nothing = np.zeros((8, 8))
    zone = calibration.boundary_zone(nothing + 0.1, nothing)
    assert not zone.any()
    assert np.isnan(calibration.brier(nothing, nothing, zone))
    assert np.isnan(calibration.ece(calibration.ece_bins(nothing, nothing, zone)))


def test_mean_and_variance(make_case):
    _, probabilities = make_case()
    mean, variance = calibration.mean_and_variance(probabilities)
    np.testing.assert_allclose(mean, probabilities.astype(float).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(variance, probabilities.astype(float).var(axis=0), atol=1e-15)


def test_brier_equals_loop(maps):
    pixels = zip(*(m.ravel() for m in maps), strict=True)
    squares = [(p - y) ** 2 for p, y, inside in pixels if inside]
    assert calibration.brier(*maps) == pytest.approx(sum(squares) / len(squares))


def test_ece_equals_loop(maps):
    probability, annotation, zone = maps
    probability.flat[:3] = 0, 1, 1 / 15
    expected = ece_by_loop(probability[zone], annotation[zone])
    assert calibration.ece(calibration.ece_bins(*maps)) == pytest.approx(expected)


def test_bins_are_closed_below_and_the_last_on_both_sides():
    p = np.array([0, 0.99 / 15, 1.01 / 15, 13.9 / 15, 14.1 / 15, 1])
    bins = calibration.ece_bins(p, 1 - p, np.ones(6, bool))
    assert {k: int(n) for k, n in enumerate(bins[0]) if n} == {0: 2, 1: 1, 13: 1, 14: 2}
    np.testing.assert_allclose(bins[1] + bins[2], bins[0])


def test_pooled_ece_equals_ece_of_all_pixels(maps):
    whole = calibration.ece_bins(*maps)
    halves = [calibration.ece_bins(*(m[rows] for m in maps)) for rows in np.s_[:11, 11:]]
    np.testing.assert_allclose(sum(halves), whole)
    assert calibration.ece(sum(halves)) == pytest.approx(calibration.ece(whole))


def test_ece_of_perfect_and_opposite_predictions(maps):
    _, annotation, zone = maps
    assert calibration.ece(calibration.ece_bins(annotation, annotation, zone)) == 0
    hard = (annotation > 0.5).astype(float)
    assert calibration.ece(calibration.ece_bins(1 - hard, hard, zone)) == 1


def test_ncc_equals_numpy(maps):
    a, b, _ = maps
    assert calibration.ncc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert calibration.ncc(a, 3 * a + 1) == pytest.approx(1)
    assert calibration.ncc(a, -a) == pytest.approx(-1)


def test_ncc_of_a_constant_map_is_nan(maps):
    a = maps[0]
    # Equal samples give variances that are rounding alone.
    _, rounding = calibration.mean_and_variance(np.repeat(a[None], 7, axis=0))
    assert rounding.any()
    assert np.isnan(calibration.ncc(a, np.full_like(a, 0.2)))
    assert np.isnan(calibration.ncc(rounding, a))

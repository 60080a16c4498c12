import numpy as np
import pytest

from keras_proseg.metrics import overlap


def counts(a, b):
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return sum(x and y for x, y in pairs), sum(x or y for x, y in pairs)


def iou_by_loop(a, b):
    both, either = counts(a, b)
    return 1.0 if either == 0 else both / either


def dice_by_loop(a, b):
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * counts(a, b)[0] / total


@pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 3, 5)])
def test_pairwise_overlaps_equal_loops(shape):
    rng = np.random.default_rng(1)
    a, b = rng.random((4, *shape)) < 0.4, rng.random((3, *shape)) < 0.6
    a[1], b[2] = False, False
    for function, oracle in [
        (overlap.pairwise_iou, iou_by_loop),
        (overlap.pairwise_dice, dice_by_loop),
    ]:
        expected = [[oracle(x, y) for y in b] for x in a]
        np.testing.assert_allclose(function(a, b), expected, rtol=1e-14)
    expected = [dice_by_loop(x, y) for x, y in zip(a[:3], b, strict=True)]
    np.testing.assert_allclose(overlap.paired_dice(a[:3], b), expected, rtol=1e-14)


def test_empty_masks():
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    for pairwise in (overlap.pairwise_iou, overlap.pairwise_dice, overlap.paired_dice):
        assert pairwise(empty, empty).item() == 1
        assert pairwise(empty, full).item() == 0
        assert pairwise(full, empty).item() == 0
        assert pairwise(full, full).item() == 1


def test_counts_stay_exact_beyond_one_chunk(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.random((3, 10, 10)) < 0.5, rng.random((2, 10, 10)) < 0.5
    expected = [[(x & y).sum() for y in b] for x in a]
    monkeypatch.setattr(overlap, "_CHUNK", 7)
    np.testing.assert_array_equal(overlap.pairwise_intersections(a, b), expected)


def test_counts_beyond_float32():
    # 2^24 + 1 is the first integer float32 cannot hold.
    ones = np.ones((1, 2**24 + 1), bool)
    assert overlap.pairwise_intersections(ones, ones).item() == 2**24 + 1


def test_bounding_box_keeps_all_foreground():
    mask = np.zeros((9, 8, 7), bool)
    mask[3, 2, 6] = mask[5, 4, 1] = True
    assert overlap.bounding_box(mask) == (slice(3, 6), slice(2, 5), slice(1, 7))
    assert mask[overlap.bounding_box(mask)].sum() == 2


def test_bounding_box_margin_stays_inside():
    mask = np.zeros((9, 8), bool)
    mask[1, 7] = True
    assert mask[overlap.bounding_box(mask, margin=2)].shape == (4, 3)
    assert mask[overlap.bounding_box(np.zeros_like(mask))].shape == (9, 8)

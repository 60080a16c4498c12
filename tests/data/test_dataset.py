import numpy as np
import pytest

from keras_proseg.data.dataset import Dataset, rank_by_area
from keras_proseg.errors import ProSegError


def test_defaults_name_raters_and_cases(arrays):
    dataset = Dataset.from_arrays(**arrays)
    assert dataset.raters == ("rater1", "rater2", "rater3")
    assert dataset.case_ids[3] == "3"
    assert dataset.masks.shape == (24, 3, 32, 32, 1)
    assert dataset[0].masks.keys() == {"rater1", "rater2", "rater3"}


def test_unannotated_masks_are_ignored_and_empty_cases_dropped(arrays):
    annotated = np.ones((24, 3), bool)
    annotated[0], annotated[1, 2] = False, False
    masks = arrays["masks"].copy()
    masks[1, 2] = 7  # never looked at
    dataset = Dataset.from_arrays(arrays["images"], masks, annotated)
    assert (len(dataset), dataset.dropped) == (23, 1)
    assert not dataset.masks[0, 2].any()
    assert set(dataset[0].masks) == {"rater1", "rater2"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((24, 32, 32))}, r"images must be \(N, H, W, C\)"),
        ({"images": np.full((24, 32, 32, 1), np.nan)}, "finite"),
        ({"images": np.zeros((24, 32, 32, 1), object)}, "real numbers"),
        ({"masks": np.zeros((24, 32, 32))}, r"\(N, R, H, W\)"),
        ({"masks": np.full((24, 3, 32, 32), "a")}, "array of 0/1"),
        ({"masks": np.zeros((24, 3, 16, 32))}, "images' size"),
        ({"masks": np.full((24, 3, 32, 32), 2)}, r"0/1. Received: values \[2\] in case 0"),
        ({"masks": np.full((24, 3, 32, 32), np.nan)}, "0/1"),
        ({"annotated": np.ones((24, 2), bool)}, "annotated must be"),
        ({"annotated": np.zeros((24, 3), bool)}, "no annotated mask"),
        ({"raters": ["a", "a", "b"]}, "3 distinct names"),
        ({"patients": ["p"]}, r"patients must be \(24,\)"),
        ({"patients": np.zeros(24, object)}, "patients must be strings or numbers"),
    ],
)
def test_bad_arrays_are_named(arrays, change, words):
    with pytest.raises(ProSegError, match=words):
        Dataset.from_arrays(**(arrays | change))


def test_area_ranks_sort_the_annotated_and_leave_the_rest_missing(arrays):
    annotated = np.ones((24, 3), bool)
    annotated[0, 0] = False
    ranked = rank_by_area(
        Dataset.from_arrays(arrays["images"], arrays["masks"][:, ::-1], annotated)
    )
    areas = ranked.masks.sum(axis=(2, 3, 4))
    assert ranked.raters == ("rank1", "rank2", "rank3")
    assert (np.diff(areas[1:], axis=1) >= 0).all()
    assert ranked.annotated[0].tolist() == [True, True, False]
    assert ranked.masks[0, 2].sum() == 0


def test_area_ties_go_by_slot():
    masks = np.zeros((1, 2, 4, 4), np.uint8)
    masks[0, 0, 0, 0] = masks[0, 1, 3, 3] = 1
    ranked = rank_by_area(Dataset.from_arrays(np.zeros((1, 4, 4, 1)), masks))
    assert ranked.masks[0, 0, 0, 0, 0] == 1


def test_fingerprint_follows_the_content(arrays):
    first = Dataset.from_arrays(**arrays).fingerprint()
    assert first == Dataset.from_arrays(**arrays).fingerprint()
    arrays["images"][0, 0, 0, 0] += 1
    assert first != Dataset.from_arrays(**arrays).fingerprint()

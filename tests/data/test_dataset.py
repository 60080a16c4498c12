import numpy as np
import pytest

from keras_proseg.audit.measure import audit_dataset
from keras_proseg.data.dataset import Dataset, rank_by_area
from keras_proseg.data.findings import Findings
from keras_proseg.data.lazy import CHUNK, channel_moments
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.verify import check_dataset
from keras_proseg.errors import ProSegError, UsageError


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


def many(count=300):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 8, 8, 1))
    return {"images": images, "masks": rng.integers(0, 2, (count, 2, 8, 8)).astype("uint8")}


def test_whatever_changes_in_data_changes_their_fingerprint():
    arrays, annotated = many(), np.ones((300, 2), bool)
    before = Dataset.from_arrays(**arrays, annotated=annotated).fingerprint()
    assert Dataset.from_arrays(**arrays, annotated=annotated).fingerprint() == before
    for name in ("images", "masks"):
        changed = {key: array.copy() for key, array in arrays.items()}
        changed[name][290].flat[5] = 1 - changed[name][290].flat[5]
        assert Dataset.from_arrays(**changed).fingerprint() != before, name
    fewer = annotated.copy()
    fewer[290, 1] = False
    arrays["masks"][290, 1] = 0
    before = Dataset.from_arrays(**arrays).fingerprint()
    assert Dataset.from_arrays(**arrays, annotated=fewer).fingerprint() != before
    names = np.arange(300)
    for column in ("patients", "case_ids"):
        assert Dataset.from_arrays(**arrays, **{column: names + 1}).fingerprint() != before
    assert Dataset.from_arrays(**arrays, raters=["a", "b"]).fingerprint() != before
    assert Dataset.from_arrays(**arrays, split=["train"] * 300).fingerprint() != before


def test_rows_beyond_a_chunk_count_as_all_others(tmp_path):
    arrays = many(2 * CHUNK + 30)
    arrays["images"][-1] = 5.0
    dataset = Dataset.from_arrays(**arrays)
    mean, spread = channel_moments(dataset.images)
    assert mean == pytest.approx(arrays["images"].mean())
    assert spread == pytest.approx(arrays["images"].std())
    write_prepared(dataset, tmp_path / "x")
    stored = load_prepared([tmp_path / "x"])
    np.testing.assert_array_equal(stored.masks.areas(), arrays["masks"].sum(axis=(2, 3)))
    assert stored.fingerprint() == dataset.fingerprint()
    findings = Findings("x")
    check_dataset(stored, findings)
    (note,) = [f.what for f in findings.items if "all pixels are equal" in f.what]
    assert note == f"all pixels are equal ({2 * CHUNK + 29})"
    one, two = arrays["masks"].reshape(len(dataset), 2, -1).astype(bool).swapaxes(0, 1)
    dice = 2 * (one & two).sum(axis=1) / (one.sum(axis=1) + two.sum(axis=1))
    np.testing.assert_allclose(audit_dataset(stored).agreement, dice, rtol=1e-6)


def test_columns_are_known_ones(arrays):
    text = r"fields of `Dataset` \(`patients` are .*\). Received: patient_ids"
    with pytest.raises(UsageError, match=text):
        Dataset.from_arrays(**arrays, patient_ids=np.arange(24))

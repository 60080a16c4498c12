import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_proseg.errors import ProSegError
from keras_proseg.metrics import case_metrics

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "metric_cases.json").read_text(encoding="utf-8"))
RENAMED = {
    "dice_max_over_raters_per_sample": "dice_max_samples",
    "dice_max_over_samples_per_rater": "dice_max_raters",
}
NAMES = {
    *("ged", "ged_unbiased", "ged_cross", "ged_within_samples", "ged_within_annotations"),
    *("dice_max", "dice_max_samples", "dice_max_raters", "dice_match", "dice_soft", "fragments"),
    *("brier", "ece", "ncc"),
}


def disc(radius, centre=(16, 16), size=32):
    rows, columns = np.mgrid[:size, :size]
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2).astype(float)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference_implementation(name):
    with np.load(GOLDEN / "metric_cases.npz") as arrays:
        masks, probabilities = arrays[f"{name}__masks"], arrays[f"{name}__probabilities"]
    expected = dict(CASES[name])
    assert (expected.pop("raters"), expected.pop("samples")) == (len(masks), len(probabilities))
    got = case_metrics(masks, probabilities)
    for key, value in expected.items():
        assert got[RENAMED.get(key, key)] == pytest.approx(value, abs=1e-5), key


def test_names_and_types(make_case):
    masks, probabilities = make_case()
    got = case_metrics(masks, probabilities)
    assert set(got) == NAMES
    assert all(type(value) is float for value in got.values())
    assert set(case_metrics(masks, probabilities, masks)) == NAMES | {"dice_rater"}


def test_identical_samples_and_annotations():
    mask = np.stack([disc(6), disc(6)])
    got = case_metrics(mask, mask, mask)
    assert {k for k, v in got.items() if v == 1} == {
        *("dice_max", "dice_max_samples", "dice_max_raters"),
        *("dice_match", "dice_soft", "dice_rater"),
    }
    assert np.isnan(got["ncc"])
    assert all(v in (0, 1) for k, v in got.items() if k != "ncc")


def test_all_empty_agrees():
    got = case_metrics(np.zeros((3, 8, 8)), np.zeros((4, 8, 8)), np.zeros((3, 8, 8)))
    ones = {"dice_max", "dice_max_samples", "dice_max_raters"}
    ones |= {"dice_match", "dice_soft", "dice_rater"}
    assert {k for k, v in got.items() if v == 1} == ones
    assert {k for k, v in got.items() if np.isnan(v)} == {"brier", "ece", "ncc"}
    assert all(got[k] == 0 for k in set(got) - ones - {"brier", "ece", "ncc"})


@pytest.mark.parametrize("predicted", [np.zeros((32, 32)), disc(3, (5, 5))])
def test_nothing_in_common(predicted):
    # One empty and one not is as far apart as two that do not touch.
    masks, samples = np.stack([disc(4, (24, 24))] * 3), np.stack([predicted] * 2)
    got = case_metrics(masks, samples, np.stack([predicted] * 3))
    assert got["ged"] == got["ged_unbiased"] == 2
    assert got["ged_cross"] == 1
    assert got["ged_within_samples"] == got["ged_within_annotations"] == 0
    for name in ("dice_max", "dice_match", "dice_soft", "dice_rater"):
        assert got[name] == 0


def test_some_annotations_empty():
    # Two of four raters see nothing, so do one of two samples: distances are 0 or 1 alone.
    masks = np.stack([disc(5), disc(5), np.zeros((32, 32)), np.zeros((32, 32))])
    got = case_metrics(masks, np.stack([disc(5), np.zeros((32, 32))]))
    assert got["ged"] == 0
    assert got["ged_unbiased"] == pytest.approx(2 * 0.5 - 1 - 2 / 3)
    assert got["dice_max"] == got["dice_match"] == 1
    assert got["ncc"] == pytest.approx(1)


def test_order_does_not_matter(make_case):
    masks, probabilities = make_case(raters=4, samples=6)
    rng = np.random.default_rng(8)
    raters, samples = rng.permutation(4), rng.permutation(6)
    predicted = probabilities[:4]
    shuffled = case_metrics(masks[raters], probabilities[samples], predicted[raters])
    assert shuffled == pytest.approx(case_metrics(masks, probabilities, predicted), abs=1e-12)


def test_a_wider_background_changes_only_ncc(make_case):
    masks, probabilities = make_case(shape=(24, 22))
    probabilities[probabilities < 0.05] = 0
    wide = [np.pad(a, ((0, 0), (9, 12), (30, 7))) for a in (masks, probabilities)]
    # The zone reaches 5 px outward, so leave it that much room in the narrow image too.
    narrow = [np.pad(a, ((0, 0), (5, 5), (5, 5))) for a in (masks, probabilities)]
    before, after = case_metrics(*narrow), case_metrics(*wide)
    assert before.pop("ncc") != after.pop("ncc")
    assert after == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("shape", [(40,), (14, 11), (8, 9, 7), (5, 4, 3, 6)])
def test_any_spatial_rank(make_case, shape):
    masks, probabilities = make_case(shape=shape)
    got = case_metrics(masks, probabilities, probabilities[:3])
    assert all(np.isfinite(value) for value in got.values())


def test_a_volume_is_one_case(make_case):
    # Slices side by side are the same pixels: whatever ignores neighbourhoods must agree.
    masks, probabilities = make_case(shape=(6, 9, 8))
    flat = case_metrics(masks.reshape(3, 54, 8), probabilities.reshape(5, 54, 8))
    volume = case_metrics(masks, probabilities)
    for name in NAMES - {"fragments", "brier", "ece"}:
        assert volume[name] == pytest.approx(flat[name], abs=1e-12)


def test_each_rater_is_held_to_the_own_mask():
    masks = np.stack([disc(3), disc(6)])
    assert case_metrics(masks, masks, masks)["dice_rater"] == 1
    small, large = masks.sum(axis=(1, 2))
    swapped = case_metrics(masks, masks, masks[::-1])["dice_rater"]
    assert swapped == pytest.approx(2 * small / (small + large))


def test_ncc_correlates_the_variances_of_whole_maps(make_case):
    masks, probabilities = make_case(shape=(40, 40))
    maps = [a.astype(float).var(axis=0).ravel() for a in (masks, probabilities)]
    assert case_metrics(masks, probabilities)["ncc"] == pytest.approx(np.corrcoef(*maps)[0, 1])


def test_threshold_is_strict_and_can_be_set():
    masks = disc(5)[None]
    assert case_metrics(masks, 0.5 * masks)["dice_max"] == 0
    assert case_metrics(masks, masks, 0.5 * masks)["dice_rater"] == 0
    assert case_metrics(masks, 0.5 * masks, 0.5 * masks, threshold=0.4)["dice_rater"] == 1


def test_dtypes_do_not_matter(make_case):
    masks, probabilities = make_case()
    expected = case_metrics(masks, probabilities)
    assert case_metrics(masks.astype(bool), probabilities.astype(float)) == expected
    assert case_metrics(masks.tolist(), probabilities.tolist()) == expected


SPACE = np.zeros((2, 4, 4))


@pytest.mark.parametrize(
    ("masks", "probabilities", "rater", "message"),
    [
        (np.zeros(3), SPACE, None, r"masks must be \(R, \.\.\.\).*Received: shape \(3,\)"),
        (SPACE[:0], SPACE, None, r"masks must be .* at least one rater.*\(0, 4, 4\)"),
        (np.zeros((2, 0, 4)), SPACE, None, r"masks must be .* one pixel.*\(2, 0, 4\)"),
        (SPACE.astype(str), SPACE, None, "masks must be an array of 0/1. Received: dtype"),
        (SPACE + 0.5, SPACE, None, "masks must be 0 or 1 everywhere. Received: .*0.5"),
        (SPACE + np.nan, SPACE, None, "masks must be 0 or 1 everywhere. Received: .*nan"),
        (SPACE, SPACE[:, :3], None, r"probabilities must be \(S, 4, 4\).*\(2, 3, 4\)"),
        (SPACE, SPACE[:0], None, r"probabilities must be \(S, 4, 4\).*\(0, 4, 4\)"),
        (SPACE, np.array(0.5), None, r"probabilities must be \(S, 4, 4\).*shape \(\)"),
        (SPACE, SPACE.astype(complex), None, "probabilities must be an array of real numbers"),
        (SPACE, SPACE + 2, None, r"probabilities must be finite and in \[0, 1\].*2.0 to 2.0"),
        (SPACE, SPACE - 1, None, r"probabilities must be finite and in \[0, 1\].*-1.0"),
        (SPACE, SPACE + np.nan, None, r"probabilities must be finite and in \[0, 1\].*nan"),
        (SPACE, SPACE + np.inf, None, r"probabilities must be finite and in \[0, 1\].*inf"),
        (SPACE, SPACE, SPACE[:1], r"rater_probabilities must be \(2, 4, 4\).*\(1, 4, 4\)"),
        (SPACE, SPACE, SPACE[:, 1:], r"rater_probabilities must be \(2, 4, 4\).*\(2, 3, 4\)"),
        (SPACE, SPACE, SPACE + 3, "rater_probabilities must be finite"),
    ],
)
def test_bad_input_is_named(masks, probabilities, rater, message):
    with pytest.raises(ProSegError, match=message):
        case_metrics(masks, probabilities, rater)


@pytest.mark.parametrize("threshold", [-0.1, 1, np.nan])
def test_bad_threshold_is_named(threshold):
    with pytest.raises(ProSegError, match="threshold must be at least 0 and below 1"):
        case_metrics(SPACE, SPACE, threshold=threshold)


def test_metrics_need_no_deep_learning_library():
    code = "import sys, keras_proseg.metrics; print({'keras', 'tensorflow'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr

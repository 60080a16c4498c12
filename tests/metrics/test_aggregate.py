import numpy as np
import pytest

from keras_proseg.errors import ProSegError
from keras_proseg.metrics import calibration, case_metrics, structure_metrics, summarise
from keras_proseg.metrics.table import table

NO_BINS = np.zeros((1, 3, 15))


def rows_of(name, values):
    return [{name: value} for value in values]


def stacked(make_case, seeds):
    cases = [make_case(seed=seed) for seed in seeds]
    return (np.stack(arrays, axis=-1) for arrays in zip(*cases, strict=True))


def test_structures_are_averaged(make_case):
    masks, probabilities = stacked(make_case, [1, 2, 3])
    rater = probabilities[:3]
    row, bins = structure_metrics(masks, probabilities, rater, ["a", "b", "c"])
    parts = [case_metrics(masks[..., k], probabilities[..., k], rater[..., k]) for k in range(3)]
    for name, values in ((n, [p[n] for p in parts]) for n in parts[0]):
        assert row[name] == pytest.approx(np.mean(values)), name
    assert bins.shape == (3, 3, 15)
    np.testing.assert_allclose(calibration.ece(bins), [p["ece"] for p in parts])


def test_each_rater_is_averaged_over_structures(make_case):
    masks, probabilities = stacked(make_case, [4, 5])
    rater = masks.copy()
    rater[1, ..., 0] = 0
    row, _ = structure_metrics(masks, probabilities, rater, ["a", "b", "c"])
    assert (row["dice_rater/a"], row["dice_rater/b"], row["dice_rater/c"]) == (1, 0.5, 1)
    assert row["dice_rater"] == pytest.approx(5 / 6)


def test_structures_without_value_are_left_out(make_case):
    masks, probabilities = stacked(make_case, [6, 7])
    masks[..., 1], probabilities[..., 1] = 0, 0
    alone = case_metrics(masks[..., 0], probabilities[..., 0])
    row, _ = structure_metrics(masks, probabilities)
    for name in ("brier", "ece", "ncc"):
        assert row[name] == pytest.approx(alone[name])
    assert row["ged"] == pytest.approx(alone["ged"] / 2)
    empty, _ = structure_metrics(masks[..., 1:], probabilities[..., 1:])
    assert np.isnan(empty["brier"])


def test_names_of_raters_are_optional(make_case):
    masks, probabilities = (a[..., None] for a in make_case())
    assert "dice_rater" not in structure_metrics(masks, probabilities, rater_names="abc")[0]
    row, _ = structure_metrics(masks, probabilities, masks)
    assert row["dice_rater"] == 1
    assert not any(name.startswith("dice_rater/") for name in row)
    assert structure_metrics(masks, probabilities / 2, threshold=0.25)[0]["ged"] == row["ged"]


def test_cases_are_averaged_per_patient_first():
    # Patient a: (1 + 2 + 3) / 3 = 2, patient b: 10; over patients 6, over cases it would be 4.
    got = summarise(rows_of("ged", [1, 2, 10, 3]), ["a", "a", "b", "a"], [NO_BINS] * 4)
    assert got["ged"] == 6
    assert (got["num_cases"], got["num_patients"]) == (4, 2)
    assert got["ged_ci"] == [2, 10]
    assert "ged_undefined" not in got


def test_undefined_cases_are_left_out_and_counted():
    # Patient a: only 4 is known; patient b: nothing is; patient c: 6.
    rows = rows_of("ncc", [np.nan, 4.0, np.nan, 6.0])
    got = summarise(rows, ["a", "a", "b", "c"], [NO_BINS] * 4)
    assert got["ncc"] == 5
    assert got["ncc_undefined"] == 2
    assert got["ncc_ci"] == [4, 6]


def test_nothing_known_stays_nan():
    got = summarise(rows_of("ged_unbiased", [np.nan] * 3), "abc", [NO_BINS] * 3)
    assert np.isnan(got["ged_unbiased"])
    assert np.isnan(got["ged_unbiased_ci"]).all()
    assert got["ged_unbiased_undefined"] == 3


def test_raters_who_are_missing_are_no_undefined_cases():
    rows = [
        {"dice_rater": 0.7, "dice_rater/x": 0.6, "dice_rater/y": 0.8},
        {"dice_rater": 0.5, "dice_rater/y": 0.5},
        {"dice_rater": 0.4, "dice_rater/x": 0.4},
    ]
    got = summarise(rows, ["a", "a", "b"], [NO_BINS] * 3)
    assert got["dice_rater"] == pytest.approx((0.6 + 0.4) / 2)
    assert got["dice_rater/x"] == pytest.approx((0.6 + 0.4) / 2)
    assert got["dice_rater/y"] == pytest.approx(0.65)
    assert not any(name.endswith("_undefined") for name in got)


@pytest.mark.parametrize("order", [1, -1])
def test_a_rater_named_as_the_interval_of_another_keeps_the_mean(order):
    names = ["dice_rater/ann", "dice_rater/ann_ci", "dice_rater/ann_undefined"][::order]
    rows = [{name: len(name) / 100 for name in names}] * 2
    rows += [dict.fromkeys(names, np.nan)]
    got = summarise(rows, "abc", [NO_BINS] * 3)
    assert [got[name] for name in names] == [pytest.approx(len(name) / 100) for name in names]
    assert {row[0]: row[1:] for row in table(got)} == {
        "dice_rater/ann": ("0.140", "nan to nan"),
        "dice_rater/ann_ci": ("0.170", "0.170 to 0.170"),
        "dice_rater/ann_undefined": ("0.240", "0.240 to 0.240"),
    }


def test_ece_is_pooled_over_cases_per_structure():
    rng = np.random.default_rng(9)
    everywhere = np.ones(400, bool)
    maps = [[(rng.random(400), rng.random(400)) for _ in range(2)] for _ in range(5)]
    bins = [[calibration.ece_bins(p, y, everywhere) for p, y in case] for case in maps]
    pooled = [
        calibration.ece_bins(
            *(np.concatenate([case[k][m] for case in maps]) for m in range(2)),
            np.tile(everywhere, 5),
        )
        for k in range(2)
    ]
    rows = rows_of("ece", [float(calibration.ece(np.array(b)).mean()) for b in bins])
    got = summarise(rows, ["a", "a", "a", "b", "c"], bins)
    assert got["ece"] == pytest.approx(np.mean([calibration.ece(b) for b in pooled]))


def test_errors_of_opposite_sign_cancel_in_the_pool():
    one = np.ones(1, bool)
    bins = [[calibration.ece_bins(0.5 * one, float(y) * one, one)] for y in (0, 1)]
    got = summarise(rows_of("ece", [0.5, 0.5]), "ab", bins)
    assert got["ece"] == 0
    # A resampling holds both patients (0) or one of them twice (0.5).
    assert got["ece_ci"] == [0, 0.5]


def test_ece_without_any_zone_is_nan():
    got = summarise(rows_of("ece", [np.nan] * 2), "ab", [NO_BINS] * 2)
    assert np.isnan(got["ece"])
    assert got["ece_undefined"] == 2


def test_interval_is_close_to_the_normal_one():
    values = np.random.default_rng(10).normal(3, 2, 400)
    got = summarise(
        rows_of("ged", values), [str(i) for i in range(400)], [NO_BINS] * 400, num_bootstrap=4000
    )
    error = values.std() / 20
    expected = values.mean() + np.array([-1.96, 1.96]) * error
    # Monte Carlo error of an end is 0.042 standard errors with 4000 resamplings: 4 of them.
    np.testing.assert_allclose(got["ged_ci"], expected, atol=0.17 * error)


def test_interval_resamples_patients_not_cases():
    # A hundred cases of four patients tell no more than the four.
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    patients = np.repeat(list("abcd"), 25)
    many = summarise(rows_of("ged", values), patients, [NO_BINS] * 100)
    few = summarise(rows_of("ged", range(4)), "abcd", [NO_BINS] * 4)
    assert many["ged_ci"] == few["ged_ci"]


def test_seed_contract():
    arguments = (
        rows_of("ged", np.random.default_rng(11).random(30)),
        [str(i) for i in range(30)],
        [NO_BINS] * 30,
    )
    assert summarise(*arguments, seed=1) == summarise(*arguments, seed=1)
    assert summarise(*arguments, seed=1)["ged_ci"] != summarise(*arguments, seed=2)["ged_ci"]


def test_one_patient_has_no_interval():
    got = summarise(rows_of("ged", [1, 2]), ["a", "a"], [NO_BINS] * 2)
    assert got["ged"] == 1.5
    assert np.isnan(got["ged_ci"]).all()


def test_summary_is_plain_python(make_case):
    masks, probabilities = stacked(make_case, [1, 2])
    row, bins = structure_metrics(masks, probabilities, masks, ["a", "b", "c"])
    got = summarise([row, row], ["p", "q"], [bins, bins])
    kinds = {type(v) for v in got.values()} | {
        type(end) for v in got.values() if isinstance(v, list) for end in v
    }
    assert kinds == {float, int, list}
    for name, value in row.items():
        assert got[name] == pytest.approx(value, abs=1e-12)


SPACE = np.zeros((2, 4, 4, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, SPACE), r"masks and probabilities must be .*\(\)"),
        ((SPACE, None), r"masks and probabilities must be .*\(\)"),
        ((SPACE[0, 0], SPACE), r"masks and probabilities must be .*\(4, 1\)"),
        ((SPACE[..., :0], SPACE[..., :0]), r"masks and probabilities must be .*\(2, 4, 4, 0\)"),
        ((SPACE, np.zeros((2, 4, 4, 3))), r"masks and probabilities must be .*\(2, 4, 4, 3\)"),
        ((SPACE, SPACE[:, :2]), r"probabilities must be \(S, 4, 4\)"),
        ((SPACE, SPACE, SPACE[:1]), r"rater_probabilities must be \(2, 4, 4\)"),
        ((SPACE, SPACE, SPACE, ["a"]), r"rater_names must be 2 distinct names. Received: \['a'\]"),
        ((SPACE, SPACE, SPACE, ["a", "a"]), "rater_names must be 2 distinct names"),
    ],
)
def test_bad_structures_are_named(arguments, message):
    with pytest.raises(ProSegError, match=message):
        structure_metrics(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "rows must be at least one case"),
        (([{"ged": 1.0}], "ab", [NO_BINS]), "patients must be one for each of 1 rows"),
        (([{"ged": 1.0}], "a", []), "ece_bins must be 1 arrays"),
        (([{"ged": 1.0}], "a", [np.zeros((3, 15))]), r"ece_bins must be .*\(3, 15\)"),
        (([{"ged": 1.0}], "a", [np.zeros((1, 3, 10))]), r"ece_bins must be .*\(1, 3, 10\)"),
        (([{"ged": 1.0}] * 2, "ab", [NO_BINS, np.zeros((2, 3, 15))]), "arrays of one shape"),
        (([{"ged": 1.0}], "a", [NO_BINS], 0, 0), "num_bootstrap must be at least 1. Received: 0"),
    ],
)
def test_bad_rows_are_named(arguments, message):
    with pytest.raises(ProSegError, match=message):
        summarise(*arguments)


def test_ece_of_a_structure_that_never_occurs_is_left_out():
    one = np.ones(1, bool)
    bins = [[calibration.ece_bins(0.5 * one, 1.0 * one, one), NO_BINS[0]] for _ in range(2)]
    assert summarise(rows_of("ece", [0.5, 0.5]), "ab", bins)["ece"] == 0.5

"""The audit against closed forms: sizes, agreement, STAPLE, and slots that mean nothing."""

import json
import re
import sys

import numpy as np
import pytest
import SimpleITK
from test_cli import run

from keras_proseg.audit.measure import _can_tell, _identity, audit_dataset
from keras_proseg.audit.plots import _cell
from keras_proseg.audit.report import report, verdict, write_audit
from keras_proseg.audit.staple import MARGIN
from keras_proseg.data.dataset import Dataset, rank_by_area
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.plotting import rater_colours

SIZE = 24


def squares(sides, **columns):
    """Squares of the given sides (N, R) with one corner in common; side 0 is an empty mask."""
    rows, there = np.mgrid[:SIZE, :SIZE]
    far = np.maximum(rows, there)[None, None] - 4
    masks = ((far < np.array(sides)[..., None, None]) & (np.minimum(rows, there) >= 4)).astype(
        np.uint8
    )
    images = np.random.default_rng(0).normal(size=(len(masks), SIZE, SIZE, 1))
    return Dataset.from_arrays(images, masks, **columns)


def test_closed_forms():
    annotated = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]], bool)
    sides = [[2, 4, 4], [0, 4, 4], [0, 0, 0]]
    dataset = squares(sides, annotated=annotated, raters=["a", "b", "c"])
    summary = audit_dataset(dataset).summary
    assert summary["pairs"]["a / b"] == {"dice": pytest.approx((0.4 + 0 + 1) / 3), "cases": 3}
    assert summary["pairs"]["b / c"] == {"dice": 1.0, "cases": 2}
    raters = summary["raters"]
    assert (raters["c"]["cases"], raters["c"]["missing"]) == (2, 1)
    assert raters["a"]["empty"] == pytest.approx(2 / 3)
    assert raters["a"]["size"] == pytest.approx((4 / 12 + 0) / 2)  # the mean area is 12, then 8
    assert raters["b"]["size"] == pytest.approx((16 / 12 + 2) / 2)
    assert summary["patterns"] == {"a, b, c": 2, "a, b": 1}
    assert (summary["cases"], summary["patients"]) == (3, 3)
    low, high = raters["a"]["size_ci"]
    assert low <= raters["a"]["size"] <= high


def test_the_most_disputed_come_first():
    audit = audit_dataset(squares([[4, 4], [2, 8], [3, 4], [0, 5]]))
    assert audit.disputed.tolist() == [3, 1, 2, 0]
    assert audit.agreement[1] == pytest.approx(2 * 4 / (4 + 64))


def test_staple_is_simpleitks_near_the_outlines():
    dataset = squares([[5, 6, 9]])
    summary = audit_dataset(dataset).summary
    high = min(SIZE, 4 + 9 + MARGIN)
    masks = dataset.masks[0, :, :high, :high, 0]
    staple = SimpleITK.STAPLEImageFilter()
    staple.SetForegroundValue(1)
    staple.Execute([SimpleITK.GetImageFromArray(np.ascontiguousarray(mask)) for mask in masks])
    found = [row["sensitivity"] for row in summary["raters"].values()]
    np.testing.assert_allclose(found, staple.GetSensitivity())
    found = [row["specificity"] for row in summary["raters"].values()]
    np.testing.assert_allclose(found, staple.GetSpecificity())


def test_a_report_of_patients_who_are_all_alike(tmp_path):
    # The mean of 20 equal sizes rounds to a little outside their interval.
    page = write_audit(squares(np.tile([4, 5, 7], (20, 1))), tmp_path / "audit")
    assert page.is_file()


def test_structures_are_averaged_and_not_pooled():
    """Raters agree on a large structure and not at all on a small one: Dice 0.5 of the two."""
    masks = np.zeros((3, 2, SIZE, SIZE, 2), np.uint8)
    masks[:, :, 2:20, 2:20, 0] = 1
    masks[:, 0, 2:4, 2:4, 1] = masks[:, 1, 8:10, 8:10, 1] = 1
    dataset = Dataset.from_arrays(np.zeros((3, SIZE, SIZE, 1)), masks, raters=["a", "b"])
    summary = audit_dataset(dataset).summary
    assert summary["pairs"]["a / b"] == {"dice": 0.5, "cases": 3}
    assert [row["staple_cases"] for row in summary["raters"].values()] == [3, 3]


def test_named_raters_are_told_from_shuffled_slots():
    rng = np.random.default_rng(0)
    sides = np.clip(np.round(rng.normal([5, 7, 10], 1, (40, 3))), 1, 18)
    named = audit_dataset(squares(sides)).summary["identity"]
    assert not named["meaningless"]
    assert named["p_value"] == pytest.approx(0.001)
    assert named["explained"] > 0.5
    shuffled = rng.permuted(sides, axis=1)
    slots = audit_dataset(squares(shuffled)).summary["identity"]
    assert slots["meaningless"]
    assert "Apparently not" in verdict(slots)
    assert "--rater-order area" in verdict(slots)
    ranked = rank_by_area(squares(shuffled))
    assert "ranks of size" in verdict(audit_dataset(ranked).summary["identity"])
    few = audit_dataset(squares(sides[:2])).summary["identity"]
    assert few["meaningless"] is None
    assert "Too few patients" in verdict(few)


def test_shuffled_slots_are_seldom_taken_for_persons():
    """The permutation test holds its level: about 5 % of shuffled data sets below 0.05."""
    rng = np.random.default_rng(1)
    dataset = squares([[3, 4, 5]])
    values = [
        _identity(dataset, rng.permuted(np.tile([0.7, 1.0, 1.3], (12, 1)), axis=1), seed)
        for seed in range(60)
    ]
    assert sum(v["p_value"] < 0.05 for v in values) <= 8


def test_report_command(tmp_path, arrays):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays, patient_ids=np.arange(24) // 2, rater_ids=["ann", "bob", "cy"])
    done = run("data", "audit", path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Yes, as far as size tells" in done.output
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "| ann | 24 | 0 |" in text
    for name in ("size", "agreement", "disputed"):
        assert f"]({name}.png)" in text
        assert (tmp_path / "out" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["cases"] == 24
    again = run("data", "audit", path, "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "new or empty" in again.output


def test_one_rater_and_empty_masks_make_a_report(tmp_path):
    path = write_audit(squares([[0], [3]]), tmp_path / "one")
    assert "nan" in path.read_text()
    assert "nothing can be disputed" in path.read_text()
    assert_pictures_are_there(path)
    write_audit(squares([[0, 0], [0, 0]]), tmp_path / "empty")
    with pytest.raises(UsageError, match="new or empty folder"):
        write_audit(squares([[1]]), tmp_path / "one")


def assert_pictures_are_there(path):
    named = re.findall(r"\]\((.*?)\)", path.read_text())
    assert sorted(named) == sorted(file.name for file in path.parent.glob("*.png"))


def test_names_with_bars_stay_in_their_cells(tmp_path):
    path = write_audit(squares([[2, 3], [3, 4]], raters=["a|b", "c\nd"]), tmp_path / "out")
    assert_pictures_are_there(path)
    lines = path.read_text().splitlines()
    assert [line for line in lines if line.startswith(r"| a\|b | 2 |")]
    assert [line for line in lines if line.startswith("| c d | 2 |")]
    assert r"| a\|b, c d | 2 |" in lines


def test_many_patterns_are_summed_up():
    rng = np.random.default_rng(0)
    annotated = rng.random((60, 6)) < 0.7
    annotated[:, 0] = True
    summary = audit_dataset(squares(np.full((60, 6), 4), annotated=annotated)).summary
    assert "other sets" in report(summary)
    assert sum(summary["patterns"].values()) == 60


def test_without_simpleitk(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ProSegError, match=r"keras-proseg\[data\]"):
        audit_dataset(squares([[1, 2]]))


def test_names_may_hold_signs_of_formulas(tmp_path):
    dataset = squares(
        [[4, 5], [5, 7], [6, 9]], raters=["$a_{$", "b"], case_ids=["$c_{0$", "1", "2"]
    )
    assert write_audit(dataset, tmp_path / "audit").is_file()


def test_manners_with_a_small_structure_are_seen_beside_a_large_one():
    """Cups of constant manners within discs that differ by chance: sizes are of each structure."""
    rng = np.random.default_rng(3)
    sides = np.stack([rng.integers(15, 19, (30, 3)), np.tile([4, 6, 8], (30, 1))], axis=-1)
    masks = np.stack([squares(sides[..., k]).masks[..., 0] for k in range(2)], axis=-1)
    dataset = Dataset.from_arrays(np.zeros((30, SIZE, SIZE, 1)), masks, raters=["a", "b", "c"])
    audit = audit_dataset(dataset)
    assert not audit.summary["identity"]["meaningless"]
    disc, cup = np.moveaxis(sides.astype(float) ** 2, 2, 0)
    relative = (disc / disc.mean(axis=1, keepdims=True) + cup / cup.mean(axis=1, keepdims=True)) / 2
    sizes = [row["size"] for row in audit.summary["raters"].values()]
    np.testing.assert_allclose(sizes, relative.mean(axis=0), rtol=1e-5)
    cell = _cell(dataset, 0, 0.5)
    drawn = sorted(int(mask.sum()) for mask, _ in cell.outlines)
    assert drawn == sorted(np.ravel(sides[0] ** 2).tolist())


def test_outlines_keep_their_raters_colour_where_one_is_missing():
    annotated = np.array([[0, 1, 1]], bool)
    cell = _cell(squares([[3, 4, 5]], annotated=annotated), 0, 0.5)
    colours = rater_colours(3)
    assert [colour for _, colour in cell.outlines] == colours[1:]
    assert [int(mask.sum()) for mask, _ in cell.outlines] == [16, 25]


def test_masks_that_are_missing_are_not_empty_and_a_rater_alone_is_compared_with_nobody():
    sides = [[4, 4], [0, 4], [9, 0], [9, 0], [9, 0]]
    annotated = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [1, 0]], bool)
    rows = audit_dataset(squares(sides, annotated=annotated, raters=["a", "b"])).summary["raters"]
    assert (rows["a"]["empty"], rows["b"]["empty"]) == (0.2, 0.0)
    assert (rows["a"]["size"], rows["b"]["size"]) == (0.5, 1.5)
    assert [row["staple_cases"] for row in rows.values()] == [2, 2]


def test_a_difference_that_is_sure_but_tiny_names_nobody():
    rng = np.random.default_rng(0)
    dataset = squares([[3, 4, 5]])
    relative = 1 + rng.normal(0, 0.3, (4000, 3)) + [-0.03, 0.0, 0.03]
    found = _identity(dataset, relative, 0)
    assert found["p_value"] < 0.01
    assert found["meaningless"]


def test_the_report_says_what_the_numbers_are(tmp_path):
    sides = np.random.default_rng(0).integers(3, 9, (12, 2))
    sides[0, 1] = 0
    page = write_audit(squares(sides, raters=["a", "b"]), tmp_path / "out")
    rows = json.loads((page.parent / "audit.json").read_text())["raters"]
    for name, row in rows.items():
        (line,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {name} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        low, high = row["size_ci"]
        assert cells == [
            "12", "0", f"{100 * row['empty']:.1f} %", f"{row['size']:.3f}",
            f"{low:.3f} to {high:.3f}", f"{row['sensitivity']:.3f}", f"{row['specificity']:.3f}",
        ]  # fmt: skip


@pytest.mark.parametrize(("patients", "told"), [(5, None), (6, False)])
def test_two_raters_need_more_patients_than_three(patients, told):
    """Of two orders in each of five patients, 2 of 32 are as sure as can be: more than 5 %."""
    sides = np.tile([4, 8], (patients, 1))
    found = audit_dataset(squares(sides)).summary["identity"]
    assert found["meaningless"] is told
    assert ("Too few patients" in verdict(found)) == (told is None)


def test_slots_that_differ_surely_are_not_called_exchangeable():
    identity = {"ranked": False, "anonymous": False, "meaningless": True, "patients": 400}
    sure = verdict(identity | {"explained": 0.02, "p_value": 0.001})
    assert "differ surely, but by too little to name persons" in sure
    assert "look exchangeable" in verdict(identity | {"explained": 0.02, "p_value": 0.3})


def test_sizes_are_means_over_patients():
    sides = [[2, 4]] * 3 + [[4, 4]]  # three slices of one patient, one of another
    summary = audit_dataset(squares(sides, patients=["p", "p", "p", "q"])).summary
    assert (summary["patients"], summary["identity"]["patients"]) == (2, 2)
    assert summary["raters"]["rater1"]["size"] == pytest.approx((0.4 + 1) / 2)


def test_the_report_says_on_how_many_cases_staple_looked(tmp_path):
    sides = [[4, 5], [0, 0], [3, 4]]
    page = write_audit(squares(sides), tmp_path / "out").read_text()
    assert "means over 2 cases with an outline" in page


def test_many_raters_can_be_told_apart_in_few_patients():
    assert _can_tell(180, 8)
    assert [_can_tell(2, patients) for patients in (3, 5, 6)] == [False, False, True]
    assert _can_tell(3, 3)

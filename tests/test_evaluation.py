"""Scores of a run, on its own cases and on others."""

import csv
import shutil
import warnings
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import source_files as files
from PIL import Image
from tiny_data import tiny_arrays

from keras_proseg import Dataset, ProSegError, UsageError, evaluate, memory
from keras_proseg.config import (
    DataConfig,
    NewRaterConfig,
)
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.sources import read_dataset
from keras_proseg.evaluation import evaluate_run
from keras_proseg.run_cases import case_rows
from keras_proseg.run_data import cases_of_run
from keras_proseg.run_rater import add_rater_to_run
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, write_json
from keras_proseg.training import resume


def test_evaluate_a_run(tiny_run, tmp_path):
    summary = evaluate_run(tiny_run.path, split="test", num_samples=3, out=tmp_path / "e")
    assert summary["split"] == "test"
    assert (tmp_path / "e" / "metrics.json").is_file()
    two = {name: array[:2] for name, array in tiny_arrays(seed=1).items()}
    np.savez(tmp_path / "two.npz", **two, patient_ids=["q1", "q2"], rater_ids=["ann", "bob", "cy"])
    found = evaluate_run(tiny_run.path, str(tmp_path / "two.npz"), num_samples=3)
    assert (found["num_patients"], found["split"]) == (2, "all")


def test_how_many_cases_are_scored_at_once_changes_no_score(tiny_model, arrays, monkeypatch):
    dataset = Dataset.from_arrays(**arrays).take(np.arange(3))
    scores = evaluate(tiny_model, dataset, 3, progress=False)
    monkeypatch.setattr(memory, "SAMPLE_VALUES", 1)
    again = evaluate(tiny_model, dataset, 3, progress=False)
    assert again[0]["ged"] == pytest.approx(scores[0]["ged"], abs=1e-6)
    assert [row["case_id"] for row in again[1]] == [row["case_id"] for row in scores[1]]


def test_raters_that_the_model_does_not_know_are_left_out_of_dice_rater(tiny_model):
    dataset = Dataset.from_arrays(**tiny_arrays(3), raters=["bob", "dave", "ann"])
    with pytest.warns(UserWarning, match="model does not know: dave. `dice_rater` leaves them"):
        summary, rows = evaluate(tiny_model, dataset, 2, progress=False)
    dice = []
    for rater, name in ((0, "bob"), (2, "ann")):
        mean, own = (
            tiny_model.predict_rater(dataset.images, name) > 0.5,
            dataset.masks[:, rater] > 0,
        )
        sizes = mean.sum(axis=(1, 2, 3)) + own.sum(axis=(1, 2, 3))
        dice.append(2 * (mean & own).sum(axis=(1, 2, 3)) / sizes)
    assert summary["dice_rater"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert "dice_rater/dave" not in summary
    assert "ged" in rows[0]


def test_no_case_at_all_is_one_line(tiny_model, arrays):
    none = Dataset.from_arrays(**arrays, raters=["ann", "bob", "cy"]).take(np.arange(0))
    with pytest.raises(ProSegError, match="arrays must be of at least one case. Received: none"):
        evaluate(tiny_model, none)
    dataset = Dataset.from_arrays(**arrays, raters=["ann", "bob", "cy"])
    with pytest.raises(UsageError, match="`num_samples` must be a whole number of at least 1"):
        evaluate(tiny_model, dataset, 0)


def test_data_that_does_not_fit_the_run(tiny_run, tmp_path):
    arrays = tiny_arrays(6)
    images = np.repeat(arrays["images"], 3, axis=-1)
    np.savez(tmp_path / "rgb.npz", images=images, masks=arrays["masks"], patient_ids=np.arange(6))
    with pytest.raises(ProSegError, match="channels, classes"):
        evaluate_run(tiny_run.path, str(tmp_path / "rgb.npz"))


def test_scores_that_could_not_be_kept_are_not_computed(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.evaluation.evaluate", lambda *_: pytest.fail("computed"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UsageError, match="`--out` must be a folder"):
            evaluate_run(tiny_run.path, out=out)
    with pytest.raises(ProSegError, match="writable place"):
        evaluate_run(tiny_run.path, out="/proc/nowhere")


def test_the_best_weights_are_scored_on_the_validation_patients(tiny_run, tmp_path, monkeypatch):
    metrics = read_json(tiny_run.path / "metrics.json")
    assert metrics["num_cases"] == tiny_run.section("data")["split"]["val"]
    loaded, load_model = [], Run.load_model

    def note(run, name="best"):
        loaded.append(name)
        return load_model(run, name)

    monkeypatch.setattr(Run, "load_model", note)
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    resume(run, log=lambda line: None)
    assert loaded == ["last", "best"]
    (run / "last.keras").unlink()
    summary = evaluate_run(run, num_samples=2)
    assert (summary["split"], summary["num_cases"]) == ("val", metrics["num_cases"])


def test_other_data_are_seen_as_the_runs_own(tiny_run, tiny_npz, tmp_path, monkeypatch):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    config = read_json(run / "config.json")
    config["data"]["rater_order"] = "area"
    config["train"] |= {"window_center": 40, "window_width": 400, "limit": 3}
    write_json(run / "config.json", config)
    read = Mock(side_effect=ProSegError("enough"))
    monkeypatch.setattr("keras_proseg.run_data.read_dataset", read)
    with pytest.raises(ProSegError, match="enough"):
        evaluate_run(run, str(tiny_npz))
    source, seen = read.call_args.args
    assert source == str(tiny_npz)
    assert (seen.rater_order, seen.window_center, seen.limit) == ("area", None, None)


def test_a_rater_of_data_without_a_split_is_told_to_be_learnt_from_all(tiny_run, tmp_path):
    lines, config = [], NewRaterConfig(steps=1, batch_size=2)
    np.savez(tmp_path / "dee.npz", **tiny_arrays(6), rater_ids=["dee", "eve", "fay"])
    add_rater_to_run(tiny_run.path, str(tmp_path / "dee.npz"), "dee", tmp_path / "new", config,
                     lines.append)  # fmt: skip
    assert any("dee.npz names no split: all cases of dee are learnt from" in line for line in lines)


def told(run, data=None, split=None):
    """What an evaluation says of cases that the run may have learnt from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cases_of_run(Run.open(run), data, split or ("all" if data else "val"))
    return [str(w.message) for w in caught if "learnt from" in str(w.message)]


def test_cases_that_were_learnt_from_are_told(tiny_run, tiny_npz, tmp_path):
    (line,) = told(tiny_run.path, data=str(tiny_npz))
    assert line.startswith(f"Of the 24 cases {tiny_run.path} learnt from 18, and 0 more are of")
    assert told(tiny_run.path, data=str(tiny_npz), split="test") == []
    assert told(tiny_run.path) == told(tiny_run.path, split="train") == []
    with np.load(tiny_npz) as arrays:
        own = dict(arrays)
    other = str(tmp_path / "other.npz")
    names = {"rater_ids": own["rater_ids"]}
    # Without their names and sides, and of another type, images are known still.
    np.savez(other, images=own["images"].astype("float64"), masks=own["masks"], **names)
    assert "learnt from 18, and 0 more" in told(tiny_run.path, data=other)[0]
    new = {"images": own["images"][::-1] + np.float32(1), "masks": own["masks"]} | names
    np.savez(other, **new)
    assert told(tiny_run.path, data=other) == []
    np.savez(other, **new, patient_ids=own["patient_ids"])
    assert "learnt from 0, and 18 more" in told(tiny_run.path, data=other)[0]


def test_blank_images_are_no_ones_in_particular(tiny_npz, tmp_path, monkeypatch):
    """Volumes begin and end with slices of nothing, whoever they are of."""
    with np.load(tiny_npz) as arrays:
        own = dict(arrays)
    own["images"][::2] = 0
    rows = case_rows(Dataset.from_arrays(own["images"], own["masks"], patients=own["patient_ids"]))
    assert [bool(row["image_digest"]) for row in rows] == [False, True] * 12
    assert len({row["image_digest"] for row in rows}) == 13
    assert len({row["patient_digest"] for row in rows}) == 12


def test_the_split_of_a_run_is_a_table(tiny_run, tiny_npz):
    with (tiny_run.path / "split.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    with np.load(tiny_npz) as arrays:
        assert [row["patient"] for row in rows] == arrays["patient_ids"].astype(str).tolist()
    facts = read_json(tiny_run.path / "config.json")["data"]["split"]
    assert {side: sum(row["split"] == side for row in rows) for side in facts} == facts


def test_a_rater_s_cases_are_learnt_from_as_well(tiny_run, tiny_npz, tmp_path):
    np.savez(tmp_path / "dee.npz", **tiny_arrays(6, seed=9), rater_ids=["dee", "eve", "fay"])
    config, data = NewRaterConfig(steps=1, batch_size=2), str(tmp_path / "dee.npz")
    assert told(tiny_run.path, data=data) == []
    new = add_rater_to_run(tiny_run.path, data, "dee", tmp_path / "new", config)
    assert "learnt from 6, and" in told(new.path, data=data)[0]
    assert "learnt from 18, and" in told(new.path, data=str(tiny_npz))[0]


def test_a_run_without_a_list_of_its_cases_says_so(tiny_run, tiny_npz, tmp_path):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    (run / "split.csv").unlink()
    assert "has no list of its cases" in told(run, data=str(tiny_npz))[0]
    for text in ("split\ntrain\n", "\0"):
        (run / "split.csv").write_text(text)
        with pytest.raises(ProSegError, match=r"split.csv must hold the split of the run's cases"):
            told(run, str(tiny_npz))


def test_scores_do_not_replace_those_of_the_training(tiny_run):
    before = (tiny_run.path / "metrics.json").read_bytes()
    with pytest.raises(UsageError, match="`--out` must be a folder that is no run"):
        evaluate_run(tiny_run.path, split="test", num_samples=1, out=tiny_run.path)
    assert (tiny_run.path / "metrics.json").read_bytes() == before


def test_other_data_of_several_sizes_are_to_be_prepared(tiny_run, tmp_path):
    root = files.write_png(tmp_path / "in", files.cases(2))
    for path in (root / "case1").iterdir():
        with Image.open(path) as picture:
            larger = picture.resize((40, 40), Image.Resampling.NEAREST)
        larger.save(path)
    source = str(root)
    text = "with --fit exact, and its commands have no such options -> `keras-proseg data prepare`"
    with pytest.raises(ProSegError, match=text):
        evaluate_run(tiny_run.path, source)
    prepared = write_prepared(read_dataset(source, DataConfig(fit="pad")), tmp_path / "one")
    assert evaluate_run(tiny_run.path, str(prepared[0]), num_samples=2)["num_cases"] == 2


def test_scores_replace_nothing_but_scores(tiny_run, tmp_path):
    """A table of somebody's own may bear the name as well, even the manifest that is scored."""
    manifest = files.write_manifest(tmp_path / "in", files.cases(2))
    own = manifest.rename(manifest.with_name("cases.csv"))
    before = own.read_bytes()
    with pytest.raises(UsageError, match=r"without cases.csv and metrics.json .*/in/cases.csv"):
        evaluate_run(tiny_run.path, str(own), num_samples=1, out=own.parent)
    assert own.read_bytes() == before
    own.unlink()
    for content in ("[1]", "{}", "half"):
        (own.parent / "metrics.json").write_text(content)
        with pytest.raises(UsageError, match="of something else. Received: .*metrics.json"):
            evaluate_run(tiny_run.path, split="test", num_samples=1, out=own.parent)
    for count in (1, 2):
        evaluate_run(tiny_run.path, split="test", num_samples=count, out=tmp_path / "scores")
        assert read_json(tmp_path / "scores" / "metrics.json")["num_samples"] == count


def test_prepared_data_of_another_scale_are_told_what_to_be_prepared_with(tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    config = run.config
    config["train"]["fit"] = "pad"
    write_json(run.config_file, config)
    write_prepared(
        read_dataset(str(files.write_png(tmp_path / "in", files.cases(2)))), tmp_path / "x"
    )
    with pytest.raises(UsageError, match=r"x must be prepared with --fit pad, as the run's data"):
        evaluate_run(run.path, str(tmp_path / "x"))


def test_data_of_other_classes_do_not_fit_the_run(tiny_model, arrays):
    masks = np.stack([arrays["masks"]] * 2, axis=-1)
    dataset = Dataset.from_arrays(arrays["images"], masks, raters=["ann", "bob", "cy"])
    with pytest.raises(ValueError, match=r"\(channels, classes\) = \(1, 1\).* Received: \(1, 2\)"):
        evaluate(tiny_model, dataset, 2)


@pytest.mark.filterwarnings("ignore:Raters that the model does not know")
def test_data_of_raters_nobody_knows_are_scored_without_dice_rater(tiny_model):
    dataset = Dataset.from_arrays(**tiny_arrays(3), raters=["x", "y", "z"])
    summary, _ = evaluate(tiny_model, dataset, 2, progress=False)
    assert "dice_rater" not in summary
    assert np.isfinite(summary["ged"])


def test_scores_say_what_the_images_were(tiny_model):
    dataset = Dataset.from_arrays(**tiny_arrays(2), raters=["ann", "bob", "cy"])
    for kind in ("given", "phantom"):
        found, _ = evaluate(tiny_model, replace(dataset, image_kind=kind), 1, progress=False)
        assert found["images"] == kind

import csv
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny_data import TINY, tiny_arrays

from keras_proseg import (
    Dataset,
    ProSeg,
    ProSegError,
    UsageError,
    evaluate,
    load,
    session,
    training,
)
from keras_proseg.config import (
    IntensityConfig,
    ModelConfig,
    TrainConfig,
    to_dict,
)
from keras_proseg.data.findings import DataError
from keras_proseg.data.pipeline import BatchReader
from keras_proseg.data.sources import load_dataset
from keras_proseg.keras_state import random_seed
from keras_proseg.layers.intensity import IntensityScaling
from keras_proseg.run_facts import announce, facts_of
from keras_proseg.runs import Run
from keras_proseg.session import Session
from keras_proseg.timing import seconds_per_step
from keras_proseg.training import fit_config, resume, train

ROOT = Path(__file__).parents[1]


def test_a_run_holds_what_it_promises(tiny_run):
    names = {p.name for p in tiny_run.path.iterdir()}
    table = (ROOT / "README.md").read_text().partition("| file of a run |")[2].partition("\n\n")[0]
    assert names == {
        name for line in table.splitlines() for name in re.findall(r"`(\w+\.\w+)`", line)
    }
    assert len(names) == 9
    metrics = json.loads((tiny_run.path / "metrics.json").read_text())
    assert metrics["split"] == "val"
    assert {"ged", "ged_ci", "dice_rater/ann", "num_samples", "images", "cpu_seconds"} <= set(
        metrics
    )
    assert metrics["num_samples"] == 4
    config = tiny_run.config
    assert config["versions"]["backend"] == "tensorflow"
    assert set(config["data"]["split"]) == {"train", "val", "test"}
    assert [row["step"] for row in tiny_run.history()][-1] == 8
    rows = list(csv.DictReader((tiny_run.path / "cases.csv").open()))
    assert len(rows) == metrics["num_cases"]
    assert (tiny_run.path / "samples.png").read_bytes()[:4] == b"\x89PNG"


def test_learning_finds_the_discs_and_the_raters(tmp_path):
    """What is learnt is real: sizes in the raters' order, and better than any one mask for all."""
    dataset = Dataset.from_arrays(**tiny_arrays(60), patients=np.arange(60) // 2)
    settings = TINY | {"width": 8, "steps": 150, "learning_rate": 3e-3, "validations": 1}
    run = train(dataset, tmp_path / "run", log=lambda line: None, **settings)
    model = load(run.path)
    images = tiny_arrays(8, seed=5)
    means = np.stack([model.predict_rater(images["images"], k) > 0.5 for k in range(3)], axis=1)
    areas = means.sum(axis=(0, 2, 3, 4))
    assert areas[0] < areas[1] < areas[2]
    fresh = Dataset.from_arrays(**images)
    summary, rows = evaluate(model, fresh, 12, progress=False)
    assert summary["dice_rater"] > 0.75
    assert summary["ged"] < 0.5
    assert len(rows) == 8
    with pytest.raises(UsageError, match="give the data"):
        resume(run.path)
    changed = Dataset.from_arrays(**tiny_arrays(60, seed=9), patients=np.arange(60) // 2)
    with pytest.raises(ProSegError, match="changed data"):
        resume(run.path, changed)


def test_weights_that_went_far_away_are_told_as_such(tiny_npz, tmp_path, monkeypatch):
    def fit(self, *_):
        decoder = self.model.mask_decoder
        decoder.set_weights([weight * np.nan for weight in decoder.get_weights()])
        return {"loss": 1.0}

    monkeypatch.setattr(Session, "_fit", fit)
    text = "must give probabilities: lower the learning rate. Received: .*finite"
    with pytest.raises(ProSegError, match=text):
        train(str(tiny_npz), tmp_path / "run", print, steps=2, **TINY)


@pytest.mark.parametrize(("skipped", "raises"), [(2, True), (1, False)])
def test_a_training_that_took_no_step_at_all_says_so(
    skipped, raises, tiny_npz, tmp_path, monkeypatch
):
    def fit(self, count, *_):
        self.model.steps_seen.assign(2)
        self.model.steps_skipped.assign(skipped)
        return {"loss": np.nan}

    monkeypatch.setattr(Session, "_fit", fit)
    monkeypatch.setattr(Session, "_validate", lambda self: {"ged": 0.5, "dice_rater": 0.5})
    monkeypatch.setattr(Session, "_report", lambda self: None)
    text = "lower the learning rate.* Received: 2 steps, none of them finite"
    with pytest.raises(ProSegError, match=text) if raises else nullcontext():
        train(str(tiny_npz), tmp_path / "run", print, steps=2, **TINY)


@pytest.fixture
def unscored(monkeypatch):
    """Spares a training that is asked about its steps the seconds of its scores."""
    monkeypatch.setattr(Session, "_validate", lambda self: {"ged": 0.5, "dice_rater": 0.5})
    monkeypatch.setattr(Session, "_report", lambda self: None)


@pytest.mark.usefixtures("unscored")
def test_minutes_become_steps_by_the_pace_at_every_checkpoint(tiny_npz, tmp_path, monkeypatch):
    # A clock on which the start and every checkpoint take ten seconds, and a timed step 2.5.
    clock = SimpleNamespace(monotonic=itertools.count(0, 10).__next__, process_time=lambda: 0.0)
    monkeypatch.setattr(session, "time", clock)
    monkeypatch.setattr(session, "seconds_per_step", lambda fit: seconds_per_step(fit) and 2.5)
    settings = TINY | {"batch_size": 4, "validations": 12}
    lines = []
    run = train(str(tiny_npz), tmp_path / "m", lines.append, minutes=1, **settings)
    rows = run.history()
    assert lines[-1 - len(rows)].startswith("Plan: 58 steps")
    assert [row["step"] for row in rows] == [45, 50, 55, 60, 65]
    assert lines[-2].startswith("step     60 / 65 ")
    assert rows[-1]["seconds"] == 60
    assert run.plan().since == 60


@pytest.mark.usefixtures("unscored")
def test_a_training_ends_on_pixels_as_they_are(tiny_npz, tmp_path, monkeypatch):
    away, draw = {}, BatchReader.augmentation

    def spy(reader, step):
        drawn = draw(reader, step)
        linear = drawn["transform"][:, [0, 1, 3, 4]]
        away[int(step)] = np.abs(linear - np.rint(linear)).max()
        return drawn

    monkeypatch.setattr(BatchReader, "augmentation", spy)
    settings = TINY | {"steps": 10, "finish": 0.4, "batch_size": 4, "validations": 2}
    # A limit in steps below those that a plan in minutes is timed by.
    run = train(str(tiny_npz), tmp_path / "r", lambda line: None, minutes=3, **settings)
    assert [row["step"] for row in run.history()] == [5, 10]
    assert min(away[step] for step in range(6)) > 0.01
    assert max(away[step] for step in range(6, 10)) < 1e-6


@pytest.mark.usefixtures("unscored")
def test_the_best_checkpoint_is_the_latest_of_those_good_at_both(tiny_npz, tmp_path, monkeypatch):
    # ged and dice_rater; the fourth is worse by less than chance, the last by more
    scores = iter([(0.50, 0.6), (0.45, 0.5), (0.46, 0.7), (0.475, 0.7), (0.485, 0.7)])
    kept, keep = [], Run.keep_as_best

    def validate(self):
        return dict(zip(("ged", "dice_rater"), next(scores), strict=True))

    def note(self):
        kept.append(len(self.history()))
        keep(self)

    monkeypatch.setattr(Session, "_validate", validate)
    monkeypatch.setattr(Run, "keep_as_best", note)
    settings = TINY | {"steps": 10, "batch_size": 4, "validations": 5}
    train(str(tiny_npz), tmp_path / "run", lambda line: None, **settings)
    assert kept == [1, 3, 4]


def test_raters_and_slices_of_arrays_are_as_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, model, *_: (run, model))
    arrays = tiny_arrays(9)
    arrays["masks"] = arrays["masks"][:, ::-1].copy()
    arrays["masks"][4] = 0
    dataset = Dataset.from_arrays(**arrays, patients=np.arange(9))
    settings = {"rater_order": "area", "slices": "drawn"}
    run, model = train(dataset, tmp_path / "run", lambda line: None, **settings)
    assert model.raters == ("rank1", "rank2", "rank3")
    assert sum(run.section("data")["split"].values()) == 8
    resume(run.path, dataset)
    with pytest.raises(ProSegError, match="of at least one slice that is drawn on"):
        arrays["masks"][:] = 0
        train(Dataset.from_arrays(**arrays, patients=np.arange(9)), slices="drawn")


def test_resume_of_a_finished_run_changes_no_loss(tiny_run, tiny_npz):
    before = tiny_run.history()
    resume(tiny_run.path, log=lambda line: None)
    assert tiny_run.history() == before


def test_resume_of_a_run_that_is_older_than_some_settings(tiny_run, tmp_path, monkeypatch):
    old = shutil.copytree(tiny_run.path, tmp_path / "old")
    config = json.loads((old / "config.json").read_text())
    for name in ("fine_width", "shortcut", "views"):
        del config["model"][name]
    (old / "config.json").write_text(json.dumps(config))
    (old / "split.csv").unlink()
    models = []
    monkeypatch.setattr(
        "keras_proseg.training._trained", lambda run, model, *_: models.append(model)
    )
    resume(old, log=lambda line: None)
    assert (models[0].fine_width, models[0].shortcut, models[0].views) == (1.0, "first", 1)
    assert (old / "split.csv").read_bytes() == (tiny_run.path / "split.csv").read_bytes()


def test_a_killed_run_ends_like_one_never_stopped(tiny_npz, tmp_path, monkeypatch):
    settings = {"steps": 40, "batch_size": 4, "width": 4, "val_cases": 2, "val_samples": 2,
                "num_samples": 2, "mean_samples": 2, "views": 1}  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setattr(Session, "_report", lambda self: None)  # only the steps are compared
    train(str(tiny_npz), whole, lambda line: None, **settings)
    command = [sys.executable, "-m", "keras_proseg_cli.main", "train"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    process = subprocess.Popen(
        [*command, "--data", str(tiny_npz), *options, "--out", killed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (killed / "best.keras").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(Run(killed).history()) < len(Run(whole).history())
    assert not (killed / "metrics.json").exists()
    done = subprocess.run([*command, "--resume", killed], check=True, capture_output=True)
    assert done.stderr == b""
    expected, got = Run(whole).history(), Run(killed).history()
    assert [row["step"] for row in got] == [row["step"] for row in expected]
    for one, two in zip(expected, got, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["val_ged"] == pytest.approx(one["val_ged"], abs=0.02)
    assert json.loads((killed / "metrics.json").read_text())["num_samples"] == 2


def test_data_without_a_side_is_refused_before_the_run_is_made(tmp_path):
    sides = np.array(["train"] * 5 + ["test"])
    dataset = Dataset.from_arrays(**tiny_arrays(6), split=sides)
    with pytest.raises(ProSegError, match="of cases in train and in val. Received: none in val"):
        train(dataset, tmp_path / "run", lambda line: None, steps=1)
    assert not (tmp_path / "run").exists()


def test_a_rater_without_masks_to_learn_from_is_told(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    annotated, split = np.ones((24, 3), bool), np.repeat(["train", "val"], 12)
    annotated[:12, 2] = False
    dataset = Dataset.from_arrays(**arrays, annotated=annotated, split=split)
    lines = []
    train(dataset, tmp_path / "run", lines.append)
    assert lines[-1].startswith("NOTE: rater rater3 has no mask in train: what is drawn as rater3")
    assert sum("NOTE" in line for line in lines) == 1


def test_every_channel_is_scaled_by_its_own(arrays):
    images = np.concatenate([500 + 3 * arrays["images"], 1e-5 * arrays["images"]], axis=-1)
    split = np.repeat(["train", "val"], 12)
    dataset = Dataset.from_arrays(images, arrays["masks"], split=split)
    config = fit_config(ModelConfig(), dataset)
    scaled = IntensityScaling(config.intensity)(images[:12]).numpy()
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), 1, rtol=1e-4)
    alone = fit_config(ModelConfig(), Dataset.from_arrays(**arrays, split=split))
    assert alone.intensity.mean == pytest.approx(arrays["images"][:12].mean(dtype=float))
    assert ModelConfig(**json.loads(json.dumps(to_dict(config)))) == config


def test_what_the_data_say_is_no_setting(arrays):
    intensity = {"mode": "zscore", "mean": 7.0}
    settings = {"raters": ("x",), "num_classes": 3, "image_channels": 1, "intensity": intensity}
    for setting in ({name: value} for name, value in settings.items()):
        (name,) = setting
        with pytest.raises(UsageError, match=f"`{name}` must be left out: the data say it"):
            train(Dataset.from_arrays(**arrays), **setting)


def test_only_training_patients_are_trained_on(tiny_npz, tmp_path):
    config = TrainConfig(batch_size=4, augment=False)
    dataset = load_dataset(str(tiny_npz), config)
    settings = ModelConfig(raters=dataset.raters, width=4, depth=3)
    reader = Session(Run(tmp_path), settings, config, dataset, print).reader
    seen = {image.tobytes() for step in range(20) for image in reader.batch(step)["image"]}
    own = dataset.images[dataset.split == "train"].astype(np.float32)
    assert seen == {image.tobytes() for image in own}


def test_a_run_goes_on_from_what_a_kill_left(tiny_run, tmp_path, monkeypatch):
    """A checkpoint whose copy as the best, and a row whose checkpoint, never came."""
    monkeypatch.setattr(Session, "_report", lambda self: None)
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    rows = run.history()
    run.write_history([*rows, rows[-1] | {"step": 9, "val_ged": 9.0}])
    (run.path / "best.keras").unlink()
    resume(run.path, log=lambda line: None)
    assert (run.path / "best.keras").read_bytes() == (run.path / "last.keras").read_bytes()
    plan = run.plan()
    run.write_plan(replace(plan, steps=plan.steps + 1))
    resume(run.path, log=lambda line: None)
    again = run.history()
    assert [row["step"] for row in again] == [*(row["step"] for row in rows), 9]
    assert again[-1]["val_ged"] < 9
    for name in ("seconds", "cpu_seconds"):
        assert again[-1][name] > rows[-1][name]


def test_weights_and_latents_follow_the_seed(tiny_npz, tmp_path):
    def made(seed):
        config = TrainConfig(seed=seed)
        dataset = load_dataset(str(tiny_npz), config)
        settings = ModelConfig(raters=dataset.raters, width=4, depth=3)
        return Session(Run(tmp_path), settings, config, dataset, print).model

    random.seed(5)
    np.random.seed(5)
    expected = random.Random(5).random(), np.random.RandomState(5).random()
    one, two, again = made(1), made(2), made(np.int64(1))
    assert (random.random(), np.random.random()) == expected, "the caller's go on as they were"
    assert (one.seed, two.seed, again.seed) == (1, 2, 1)
    kernels = [model.backbone.trainable_variables[0].numpy() for model in (one, two, again)]
    assert (kernels[0] != kernels[1]).any()
    np.testing.assert_array_equal(kernels[0], kernels[2])


@pytest.mark.usefixtures("unscored")
def test_without_augmentation_images_stay_as_they_are(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(BatchReader, "augmentation", lambda *_: pytest.fail("augmented"))
    settings = TINY | {"steps": 1, "batch_size": 4, "augment": False}
    train(str(tiny_npz), tmp_path / "run", lambda line: None, **settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.repeat(tiny_arrays(12)["images"], 2, axis=0)}, "1 has the image of case 0"),
        ({"case_ids": ["a"] * 24}, "1 case ids more than once: a"),
        ({"spacing": np.full((24, 2), -1.0)}, "give a positive spacing"),
    ],
)
def test_a_data_set_from_python_is_checked_as_a_file_is(change, words, tmp_path):
    dataset = Dataset.from_arrays(**tiny_arrays(24) | change, patients=np.arange(24))
    with pytest.raises(DataError, match=words):
        train(dataset, tmp_path / "run", log=lambda line: None, **TINY)
    assert not (tmp_path / "run").exists()


def test_of_two_trainings_of_one_name_one_is_refused(arrays, tmp_path, monkeypatch):
    """What the other writes while this one still looks at its data."""
    facts = training.facts_of

    def slowly(*given):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.json").write_text("{}")
        return facts(*given)

    monkeypatch.setattr(training, "facts_of", slowly)
    split = ["train"] * 12 + ["val"] * 12
    with pytest.raises(UsageError, match="`--out` must be a new or empty folder"):
        train(Dataset.from_arrays(**arrays, split=split), tmp_path / "run", steps=1)
    assert (tmp_path / "run" / "config.json").read_text() == "{}"
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_weights_start_as_keras_own_seed_has_them():
    with random_seed(7):
        ours = ProSeg(raters=["a"], width=4, depth=3).get_weights()
    state = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(7)
    theirs = ProSeg(raters=["a"], width=4, depth=3).get_weights()
    random.setstate(state[0])
    np.random.set_state(state[1])
    assert all(map(np.array_equal, ours, theirs))
    assert any(weight.std() > 0 for weight in ours)


def test_a_checkpoint_is_scored_on_cases_from_all_of_val(monkeypatch):
    asked, scores = [], {"ged": 0.5, "dice_match": 0.6, "dice_rater": 0.7}

    def note(model, cases, count, **options):
        asked.append((cases.case_ids.tolist(), count, options))
        return scores, []

    monkeypatch.setattr(session, "evaluate", note)
    own = Session.__new__(Session)
    own.config = TrainConfig(val_cases=3, val_samples=5, num_samples=7)
    own.val, own.model = Dataset.from_arrays(**tiny_arrays(9)), None
    assert own._validate() == scores
    assert asked == [(["0", "4", "8"], 5, {"progress": False, "volumes": False})]


def test_a_checkpoint_tells_its_scores(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "_validate", lambda self: {"ged": 0.25, "dice_rater": 0.75})
    monkeypatch.setattr(Session, "_report", lambda self: None)
    lines, settings = [], TINY | {"steps": 1, "batch_size": 4}
    train(str(tiny_npz), tmp_path / "run", lines.append, **settings)
    assert "val ged 0.250  dice_rater 0.750" in lines[-1]


@pytest.mark.parametrize("kind", ["phantom", "given"])
def test_a_training_tells_what_is_odd_in_its_cases(kind, arrays):
    split = np.repeat(["train", "val"], 12)
    dataset = Dataset.from_arrays(**arrays, split=split, patients=np.arange(24))
    dataset = replace(dataset, image_kind=kind, dropped=3)
    facts, lines = facts_of(dataset, dataset), []
    announce(dataset, facts, lines.append)
    assert any("SIMULATED" in line for line in lines) == (kind == "phantom")
    text = "24 cases (12 train, 12 val), split by patient_ids; 3 without any rater left out."
    assert text in lines
    assert (facts["dropped"], facts["group_by"]) == (3, "patient_ids")
    lines.clear()
    announce(replace(dataset, dropped=0), facts, lines.append)
    assert not any("left out" in line for line in lines)


def test_a_channel_without_any_contrast_is_left_as_it_is(arrays):
    images = np.concatenate([arrays["images"], np.full_like(arrays["images"], 7)], axis=-1)
    dataset = Dataset.from_arrays(images, arrays["masks"], split=np.repeat(["train", "val"], 12))
    assert fit_config(ModelConfig(), dataset).intensity.std[1] == 1
    for kind in ("ct", "phantom"):
        seen = fit_config(ModelConfig(), replace(dataset, image_kind=kind)).intensity
        assert seen == IntensityConfig(mode="window")

"""A new rater, learnt from a few of their masks."""

import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops
from test_cli import run
from tiny_data import tiny_arrays
from tiny_model import batch, tiny

from keras_proseg import ProSegError, UsageError, add_rater, load
from keras_proseg.config import NewRaterConfig
from keras_proseg.data import pipeline
from keras_proseg.new_rater import SHARED, _alone
from keras_proseg.run_rater import add_rater_to_run
from keras_proseg.runs import Run
from keras_proseg.sampling.preferences import draw_preferences
from keras_proseg.text_files import read_json, write_json
from keras_proseg.training import resume

numpy = keras.ops.convert_to_numpy


def model_with_manners(images):
    """A model whose outlines depend on tau as a trained one's do, and split images in half."""
    model = tiny(depth=3, ambiguity_stride=8, ambiguity_start_scale=0.1)
    kernel, bias = model.mask_decoder.from_tau.get_weights()
    model.mask_decoder.from_tau.set_weights([20 * kernel, bias])
    kernel, bias = model.mask_decoder.out.get_weights()
    mean = model.rater_moments(images)[0].clip(1e-6, 1 - 1e-6)
    middle = np.median(np.log(mean / (1 - mean)))
    model.mask_decoder.out.set_weights([20 * kernel, bias - 20 * middle])
    return model


def with_concentration(model, values):
    """The model with the first rater's q(tau|r) replaced."""
    raw = model.preference.get_weights()[0]
    raw[0] = np.log(np.expm1(values))
    model.preference.set_weights([raw])
    return model


@pytest.mark.backend
def test_a_raters_manner_is_found_from_their_masks():
    images = batch(24)["image"]
    truth = with_concentration(model_with_manners(images), [12, 0.05, 12, 0.05, 0.05, 0.05])
    outlined = truth.predict_rater(images, 0)
    model = model_with_manners(images)
    masks = (outlined > 0.5).astype("uint8")
    new = add_rater(model, "dan", images, masks, steps=60, learning_rate=0.3, augment=False)
    assert new.raters == ["ann", "bob", "cy", "dan"]

    def distance(rater):
        return abs(new.predict_rater(images, rater) - outlined).mean()

    assert distance("dan") < 0.8 * min(map(distance, model.raters))
    found = numpy(new.preference.q_tau().mean())[3]
    assert found[[0, 2]].sum() > 0.7  # of 1; it started at a third
    for name in SHARED:
        for one, two in zip(getattr(new, name).weights, getattr(model, name).weights, strict=True):
            np.testing.assert_array_equal(numpy(one), numpy(two))
    np.testing.assert_array_equal(
        new.preference.get_weights()[0][:3], model.preference.get_weights()[0]
    )
    named = numpy(new.classifier(new.preference.p_tau().sample(500, [0, 0]))).argmax(axis=1)
    assert 3 not in named


def test_what_cannot_be_learnt_is_refused():
    model, images = tiny(), batch(4)["image"]
    masks = np.zeros((4, 32, 32), "uint8")
    with pytest.raises(UsageError, match="a name beside ann, bob, cy. Received: 'bob'"):
        add_rater(model, "bob", images, masks)
    with pytest.raises(UsageError, match="`ambiguity_per_rater` must be false"):
        add_rater(tiny(ambiguity_per_rater=True), "dan", images, masks)
    with pytest.raises(UsageError, match="`steps` must be at least 1. Received: 0"):
        add_rater(model, "dan", images, masks, steps=0)
    with pytest.raises(ProSegError, match=r"masks must be .* N, H, W = \(4, 32, 32\)"):
        add_rater(model, "dan", images, masks[:, :16])
    with pytest.raises(ProSegError, match=r"\(channels, classes\) = \(1, 1\)"):
        add_rater(model, "dan", np.repeat(images, 3, axis=-1), masks)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Masks of cy, and of dan on half of the images."""
    arrays = tiny_arrays(6, raters=2, seed=3)
    annotated = np.ones((6, 2), bool)
    annotated[3:, 1] = False
    path = tmp_path_factory.mktemp("new") / "new.npz"
    np.savez(path, **arrays, annotated=annotated, rater_ids=["cy", "dan"])
    return path


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_add_rater_command(tiny_run, source, tmp_path):
    out, command = tmp_path / "run", ("add-rater", tiny_run.path, "--data", source)
    done = run(*command, "--rater", "dan", "--out", out, "--steps", 2, "--batch-size", 2)
    assert done.exit_code == 0, done.output
    assert load(out).raters == ["ann", "bob", "cy", "dan"]
    assert load(out).steps_done == load(tiny_run.path).steps_done > 0  # an export asks for them
    facts = Run.open(out).section("data")
    assert facts["added"] == [{"rater": "dan", "cases": 3, "source": "new.npz"}]
    np.save(tmp_path / "image.npy", np.zeros((32, 32), "float32"))
    drawn = run("sample", out, tmp_path / "image.npy", "--rater", "dan", "--out", tmp_path / "s")
    assert drawn.exit_code == 0, drawn.output
    scores = run("evaluate", out, "--data", source, "--num-samples", 2, "--out", tmp_path / "e")
    assert scores.exit_code == 0, scores.output
    assert "dice_rater/dan" in json.loads((tmp_path / "e" / "metrics.json").read_text())
    with pytest.raises(UsageError, match="names no file of data"):
        resume(out)


def test_a_name_in_another_spelling_is_the_same(tiny_run, tmp_path, monkeypatch):
    path = tmp_path / "new.npz"
    np.savez(path, **tiny_arrays(6, raters=2), rater_ids=["cy", "Zo\u00eb"])
    asked = []
    monkeypatch.setattr("keras_proseg.run_rater.add_rater", lambda *given: asked.append(given[1]))
    with pytest.raises(AttributeError):
        add_rater_to_run(tiny_run.path, str(path), "Zoe\u0308", tmp_path / "run", None)
    assert asked == ["Zo\u00eb"]


@pytest.mark.parametrize(
    ("rater", "words"),
    [("eve", "one of cy, dan. Received: eve"), ("cy", "a name beside ann, bob, cy")],
)
def test_add_rater_refuses_names(rater, words, tiny_run, source, tmp_path):
    out = tmp_path / "run"
    done = run("add-rater", tiny_run.path, "--data", source, "--rater", rater, "--out", out)
    assert done.exit_code == 2
    assert words in done.output
    assert not out.exists()


def test_a_rater_without_masks_to_learn_from_is_refused(tiny_run, tmp_path):
    annotated = np.ones((6, 2), bool)
    annotated[:4, 1] = False
    columns = {"annotated": annotated, "rater_ids": ["a", "dan"]}
    path, split = tmp_path / "x.npz", ["train"] * 4 + ["val"] * 2
    np.savez(path, **tiny_arrays(6, raters=2), **columns, split=split)
    command = ("add-rater", tiny_run.path, "--data", path, "--rater", "dan", "--out")
    done = run(*command, tmp_path / "r")
    assert done.exit_code == 2
    assert "must have masks in training cases" in done.output
    done = run(*command, tmp_path)
    assert done.exit_code == 2
    assert "`--out` must be a new or empty folder" in done.output


@pytest.mark.parametrize(
    ("views", "augment", "expected"), [(1, None, False), (2, None, True), (2, False, False)]
)
def test_a_rater_is_learnt_from_images_as_the_network_knows_them(
    views, augment, expected, monkeypatch
):
    asked = []
    batches = pipeline.training_batches
    monkeypatch.setattr(
        pipeline, "training_batches",
        lambda reader, first, augmented: asked.append(augmented) or batches(reader, first, False),
    )  # fmt: skip
    images, masks = batch(2)["image"], np.ones((2, 32, 32), "uint8")
    model, before = tiny(views=views), np.random.get_state()[1].copy()
    add_rater(model, "dan", images, masks, steps=1, batch_size=2, augment=augment)
    assert asked == [expected]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # the caller's own


def test_the_seed_of_a_new_rater_is_that_of_its_latents():
    for seed in (0, 5):
        assert _alone(tiny(), ("dan",), seed).seed == seed


def test_nobody_draws_as_the_new_rater_by_the_prior():
    """No image of theirs told p(r|tau) which tau are theirs."""
    model, image = tiny(diverse="prior"), batch(4)
    masks = image["masks"][:, 0]
    new = add_rater(model, "dan", image["image"], masks, steps=1, batch_size=2)
    ids, _ = draw_preferences(new, None, 1, 4000, 0)
    assert set(np.unique(ids)) <= {0, 1, 2}


def test_shapes_and_settings_are_told_in_the_words_of_who_gave_them():
    model, images = tiny(), batch(4)["image"]
    text = (
        r"\(N, H, W\) or \(N, H, W, K\), of the images' N, H, W = \(4, 32, 32\). Received: \(4, 1,"
    )
    with pytest.raises(ProSegError, match=text):
        add_rater(model, "dan", images, np.zeros((4, 1, 32, 32, 1), "uint8"))
    with pytest.raises(UsageError, match="fields of `NewRaterConfig`. Received: stps"):
        add_rater(model, "dan", images, np.zeros((4, 32, 32), "uint8"), stps=5)


def test_options_of_add_rater_are_heeded(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "keras_proseg.run_rater.add_rater_to_run",
        lambda *given: asked.append(given) or SimpleNamespace(path="new"),
    )
    options = ("--steps", 7, "--learning-rate", 0.5, "--no-augment", "--seed", 3)
    done = run("add-rater", "r", "--data", "d", "--rater", "x", "--out", "o", *options)
    assert done.exit_code == 0, done.output
    assert asked[0][:4] == ("r", "d", "x", "o")
    assert asked[0][4] == NewRaterConfig(steps=7, learning_rate=0.5, augment=False, seed=3)


def test_only_the_manner_is_learnt_from_the_middle_of_all_others():
    model = tiny()
    model.preference.set_weights([np.arange(18.0).reshape(3, 6)])
    alone = _alone(model, ("dan",), 0)
    assert [w.path.split("/")[-1] for w in alone.trainable_variables] == ["concentration"]
    started = ops.convert_to_numpy(alone.preference.concentration)
    np.testing.assert_allclose(started, [np.arange(6.0) + 6])


def test_what_a_run_says_of_two_added_raters(tiny_run, tmp_path):
    config = NewRaterConfig(steps=1, batch_size=2)
    run_, before = (
        Run(shutil.copytree(tiny_run.path, tmp_path / "run")),
        read_json(tiny_run.config_file),
    )
    before["data"]["rater_order"] = before["train"]["rater_order"] = "area"
    write_json(run_.config_file, before)
    np.savez(tmp_path / "new.npz", **tiny_arrays(3, raters=2), rater_ids=["dan", "eve"])
    for name in ("dan", "eve"):
        run_ = add_rater_to_run(run_.path, str(tmp_path / "new.npz"), name, tmp_path / name, config)
    data = run_.section("data")
    assert [one["rater"] for one in data["added"]] == ["dan", "eve"]
    assert "fingerprint" not in data
    assert run_.rater_order == "given"  # ranks would be given to the named ones as well
    assert data["origin"]["rater_order"] == "area"

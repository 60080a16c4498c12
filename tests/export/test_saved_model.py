"""What the signatures answer, against the model itself."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_proseg.config import ExportConfig
from keras_proseg.distributions import standard_normal
from keras_proseg.export import passes, saved_model
from keras_proseg.export.answers import Answers
from keras_proseg.export.preferences import Preferences
from keras_proseg.model import ProSeg
from keras_proseg.sampling import latents
from keras_proseg.sampling import passes as own_passes

MAPS = {"probability": "mean"} | {n: n for n in ("total", "between_rater", "boundary")}


def call(signature, **inputs):
    types = {"image": tf.float32, "seed": tf.int32, "query": tf.string}
    answers = signature(**{k: tf.constant(v, types.get(k)) for k, v in inputs.items()})
    return {name: value.numpy() for name, value in answers.items()}


def assert_maps(signature, model, image):
    answers, maps = call(signature, image=image), model.uncertainty(image)
    for name, own in MAPS.items():
        np.testing.assert_allclose(answers[name], maps[own], atol=1e-5)


def test_maps_agree_with_the_model_at_any_size(served, tiny_model, images):
    assert_maps(served["serving_default"], tiny_model, images)
    assert_maps(served["serving_default"], tiny_model, images[:1, :32, :17])
    assert_maps(served["serving_default"], tiny_model, images[:2, :1, :1])


def test_a_raters_mean_agrees_by_index_and_by_name(served, tiny_model, images):
    expected = tiny_model.predict_rater(images, [0, 1, 2])
    expected[1] = tiny_model.uncertainty(images)["mean"][1]
    answer = call(served["predict_rater"], image=images, rater=[0, -1, 2])["probability"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    by_name = served["predict_rater_by_name"]
    answer = call(by_name, image=images, rater=["ann", "", "cy"])["probability"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_equal_seeds_give_the_draws_of_the_model(served, tiny_model, images):
    answer = call(served["sample"], image=images, rater=[1, 1, 1], seed=[7, 7, 7])["samples"]
    np.testing.assert_allclose(answer, tiny_model.sample(images, "bob", 4, seed=7), atol=1e-5)
    names = ["bob"] * 3
    again = call(served["sample_by_name"], image=images, rater=names, seed=[7, 7, 7])["samples"]
    np.testing.assert_array_equal(again, answer)


def test_an_images_samples_depend_on_its_own_seed_alone(served, images):
    together = call(served["sample"], image=images, rater=[-1, 0, 2], seed=[5, 6, 7])["samples"]
    alone = call(served["sample"], image=images[1:2], rater=[0], seed=[6])["samples"][0]
    np.testing.assert_allclose(alone, together[1], atol=1e-6)
    other = call(served["sample"], image=images[1:2], rater=[0], seed=[8])["samples"][0]
    assert abs(other - alone).max() > 1e-3


def test_anyone_is_every_rater_as_often_as_any_other(served, images):
    def sample(rater):
        return call(served["sample"], image=images[:1], rater=[rater], seed=[3])["samples"][0]

    named = np.stack([sample(rater) for rater in range(3)])
    distance = abs(named - sample(-1)).max(axis=(2, 3, 4))  # (R, S)
    assert (distance.min(axis=0) < 1e-6).all()
    assert sorted(np.bincount(distance.argmin(axis=0))) == [1, 1, 2]


def test_one_sample_of_anyone_is_of_any_rater(tiny_model):
    seeds = tf.range(20)
    ids, _ = Preferences(tiny_model, 1).draw(tf.fill((20,), -1), seeds)
    assert set(ids.numpy().ravel().tolist()) == {0, 1, 2}


def test_an_empty_batch_gives_an_empty_answer(served):
    nothing = np.zeros((0, 32, 24, 1), "float32")
    assert call(served["serving_default"], image=nothing)["total"].shape == (0, 32, 24, 1)
    empty = np.zeros(0, "int32")
    answer = call(served["sample"], image=nothing, rater=empty, seed=empty)
    assert answer["samples"].shape == (0, 4, 32, 24, 1)


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("predict_rater", {"rater": [3]}, "-1 or an index from 0 to 2"),
        ("predict_rater", {"rater": [-2]}, "-1 or an index from 0 to 2"),
        ("predict_rater", {"rater": [0, 1]}, "as many as images"),
        ("predict_rater_by_name", {"rater": ["zoe"]}, 'or one of ann, bob, cy'),
        ("sample", {"rater": [3], "seed": [0]}, "-1 or an index"),
        ("sample", {"rater": [0], "seed": [0, 1]}, "as many as images"),
        ("sample_by_name", {"rater": ["Ann"], "seed": [0]}, "ann, bob, cy"),
        ("serving_default", {"image": np.full((1, 32, 32, 1), np.nan)}, "finite"),
        ("serving_default", {"image": np.full((1, 32, 32, 1), -3.4e38)}, "between -1e"),
        ("serving_default", {"image": np.zeros((1, 0, 32, 1))}, "must have pixels"),
        ("serving_default", {"image": np.zeros((1, 32, 32, 3))}, "must have 1 channels"),
        ("serving_default", {"image": np.zeros((2, 32, 32, 4))}, "must have 1 channels"),
        ("serving_default", {"image": np.zeros((1, 32, 32, 0))}, "must have 1 channels"),
        ("predict_rater", {"image": np.zeros((1, 32, 32, 2)), "rater": [0]}, "1 channels"),
        (
            "sample_by_name", {"image": np.zeros((1, 32, 32, 2)), "rater": [""], "seed": [0]},
            "1 channels",
        ),
        ("metadata", {"query": ["weather"]}, "raters"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_an_error(served, signature, inputs, words):
    image = {} if signature == "metadata" else {"image": np.zeros((1, 32, 32, 1))}
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        call(served[signature], **image | inputs)


def test_metadata_is_served_and_is_an_asset(served, exported, tiny_run, tiny_model):
    answers = call(served["metadata"], query=["", "raters", "metrics"])["json"]
    everything, raters, metrics = (json.loads(answer) for answer in answers)
    assert raters == ["ann", "bob", "cy"]
    assert metrics == json.loads((tiny_run.path / "metrics.json").read_text())
    assert everything == json.loads((exported / "assets" / "metadata.json").read_text())
    assert everything["training"]["data"]["source"] == "tiny.npz"
    assert everything["training"]["steps"] == tiny_model.steps_done
    assert everything["version"] == 1


def small_model(**settings):
    keras.utils.set_random_seed(1)
    settings = {"width": 4, "depth": 3, "mean_samples": 3, "num_classes": 2} | settings
    return ProSeg(raters=["ann", "bob"], **settings)


def maps_of(model, image):
    return {k: v.numpy() for k, v in Answers(model, 2).maps(tf.constant(image)).items()}


def test_z_of_each_rater_and_every_kind_of_pass(images, monkeypatch):
    """One draw of one image at a time is the same law as all at once, as the model has it."""
    model = small_model(ambiguity_per_rater=True, ambiguity_stride=2)
    np.testing.assert_allclose(
        maps_of(model, images)["total"], model.uncertainty(images)["total"], atol=1e-5
    )
    with monkeypatch.context() as patch:
        patch.setattr(passes, "AT_ONCE_VALUES", 1)
        answer = maps_of(model, images)["total"]
        np.testing.assert_allclose(answer, model.uncertainty(images)["total"], atol=1e-5)
    one = tf.ones(3, tf.int32)
    for chunk in (1, 2 * 40 * 45 * model.mask_decoder.width // 4):  # one draw, or two, a pass
        monkeypatch.setattr(own_passes, "CHUNK_VALUES", chunk)
        monkeypatch.setattr(passes, "CHUNK_VALUES", chunk)
        answer = Answers(model, 5).samples(tf.constant(images), one, 9 * one)
        # Untrained logits are steep and enlarge the rounding of other passes.
        np.testing.assert_allclose(answer, model.sample(images, "bob", 5, seed=9), atol=1e-4)
        answer = Answers(model, 5).mean_of(tf.constant(images), one)
        np.testing.assert_allclose(answer, model.predict_rater(images, "bob"), atol=1e-4)
        means = model.rater_moments(images)[0]
        np.testing.assert_allclose(answer, means[:, 1], atol=1e-4)


def test_everyones_mean_of_several_images_is_each_ones_own(images, monkeypatch):
    """Where all draws of two images fit into a pass, but not all raters of one."""
    keras.utils.set_random_seed(1)
    settings = {"width": 4, "depth": 2, "ambiguity_stride": 4, "mean_samples": 2, "views": 2}
    model = ProSeg(raters=list("abcdef"), **settings)
    expected = model.uncertainty(images[:2])["mean"]
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    per_draw = own_passes.values_per_draw(model, images[0, ..., 0].size)
    monkeypatch.setattr(passes, "CHUNK_VALUES", 4 * per_draw)
    answer = Answers(model, 2).mean_of(tf.constant(images[:2]), tf.constant([-1, -1]))
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_maps_of_many_passes_are_the_moments_of_their_draws(images, monkeypatch):
    model = small_model(views=2)
    monkeypatch.setattr(passes, "CHUNK_VALUES", 1)
    monkeypatch.setattr(passes, "AT_ONCE_VALUES", 1)
    answer = maps_of(model, images)
    tau = model.preference.q_tau().sample(3, [latents.FIXED_SEED, 0])
    features, heads = model.encode(images)
    shape = (3, *heads.shape[2:4], model.settings.ambiguity_size)
    noise = latents.paired(standard_normal(shape, [latents.FIXED_SEED, latents.Z]))
    every = []
    for draw in range(3):
        step = -1 if draw % 2 else 1  # every second one of the image mirrored left to right
        features, heads = model.encode(images[:, :, ::step])
        z = model.ambiguity.answering_z(heads).sample(noise[None, draw : draw + 1])
        both = [model.decode(images, features, z, tau[None, draw : draw + 1, r]) for r in (0, 1)]
        every.append(tf.concat(tf.sigmoid(both), axis=2)[:, :, :, :, ::step])
    every = np.concatenate(every, axis=2)  # (R, B, M, H, W, K)
    np.testing.assert_allclose(answer["probability"], every.mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(answer["boundary"], every.var(2).mean(0), atol=1e-5)
    np.testing.assert_allclose(answer["between_rater"], every.mean(2).var(0), atol=1e-5)


def test_prior_draws_are_named_by_the_classifier():
    model = small_model(diverse="prior", preference_start=(1.0, 1.0))
    ids, tau = Preferences(model, 4000).draw(tf.constant([-1, 1]), tf.constant([3, 3]))
    named = tf.nn.softmax(model.classifier(tau[0]))[:, 1].numpy()
    # Four standard errors of the mean of 4,000 coins.
    assert abs(np.mean(ids[0] == 1) - named.mean()) < 4 * 0.5 / np.sqrt(4000)
    np.testing.assert_allclose(np.mean(tau[0], axis=0), 0.25, atol=0.02)
    assert (ids[1] == 1).numpy().all()


def test_each_draw_has_the_z_of_its_own_rater(images):
    model, image = small_model(ambiguity_per_rater=True, views=2), tf.constant(images[:1])
    answers, seed = Answers(model, 6), tf.constant([3])
    ids, _ = answers.preferences.draw(tf.constant([-1]), seed)
    samples = answers.samples(image, tf.constant([-1]), seed)[0].numpy()
    for rater in (0, 1):
        own = answers.samples(image, tf.constant([rater]), seed)[0].numpy()
        chosen = ids[0].numpy() == rater
        np.testing.assert_allclose(samples[chosen], own[chosen], atol=1e-5)


def test_the_server_is_warmed_up_with_images_of_the_size_given(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(saved_model, "make_signatures", lambda *_: {})
    monkeypatch.setattr(saved_model, "write_warmup", lambda *given: asked.append(given[1:]))
    monkeypatch.setattr(saved_model.tf.saved_model, "save", lambda *_: None)
    (tmp_path / "m.json").write_text("{}")
    model = SimpleNamespace(settings=SimpleNamespace(image_channels=2), raters=["ann"])
    config = ExportConfig(height=16, width=24)
    saved_model.write_saved_model(tmp_path, model, config, {"name": "x"}, tmp_path / "m.json")
    assert asked == [("x", (16, 24, 2), ["ann"])]

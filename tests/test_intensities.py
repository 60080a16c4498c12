"""An image in another unit than the training's is told; one like the training's is not."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest
from test_cli import run as command

from keras_proseg.config import IntensityConfig, ModelConfig, NewRaterConfig, TrainConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.preparing import write_prepared
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.intensities import (
    MOST_IMAGES,
    MOST_PIXELS,
    _thinned,
    intensities_of,
    warn_of_other_intensities,
)
from keras_proseg.model import ProSeg
from keras_proseg.new_rater import add_rater
from keras_proseg.pretrained import find_run, load
from keras_proseg.run_rater import add_rater_to_run
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, write_json

LUNG = IntensityConfig(mode="window")


def chest(count, seed):
    """CT slices in HU: air, lung, soft tissue, some bone."""
    rng = np.random.default_rng(seed)
    parts = rng.choice([-1000.0, -850.0, 40.0, 700.0], (count, 24, 24, 1), p=[0.2, 0.4, 0.36, 0.04])
    return parts + rng.normal(0, 20, parts.shape) + rng.normal(0, 10, (count, 1, 1, 1))


def trained(folder, images, scaling):
    """A run that says of its training what `train` would."""
    masks = np.ones((len(images), 1, *images.shape[1:3]), np.uint8)
    dataset = Dataset.from_arrays(images, masks, split=np.array(["train"] * len(images)))
    facts = {"images": "given", "intensities": intensities_of(dataset, scaling)}
    folder.mkdir()
    made = Run(folder)
    made.write_config(ModelConfig(intensity=scaling), TrainConfig(), facts)
    return made


def told(run, images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_other_intensities(run, images, "ct.npy")
    return [str(w.message) for w in caught]


CT = chest(4, 1)
GREY = np.clip((CT + 1000) / 8, 0, 255)
ZSCORE, PLAIN = IntensityConfig(mean=-400.0, std=500.0), IntensityConfig(mode="divide")
FAR_OUT = np.where(CT < -950, -3024, CT)  # as some scanners fill what lies outside the circle
HU, EIGHT_BIT = chest(40, 0), np.clip((chest(40, 0) + 1000) / 8, 0, 255)
CASES = [  # images of the training, how the network sees them; images like them, unlike them
    (HU, LUNG, [CT, CT[:1], CT * 0.8, CT + 150], [GREY, CT + 1024, CT + 3000, CT / 1000]),
    (HU, LUNG, [FAR_OUT, CT * 2], [GREY / 255]),  # a window clips what is beyond it
    (HU, ZSCORE, [CT, CT + 150], [GREY, CT * 4, FAR_OUT]),
    (EIGHT_BIT, ZSCORE, [GREY, GREY / 2, GREY * 0], [CT, GREY / 255]),
    (HU + 1000, PLAIN, [CT + 1000], [CT, (CT + 1000) / 4095]),
]


@pytest.mark.parametrize(("images", "scaling", "like", "unlike"), CASES)
def test_another_unit_is_told_and_no_other_image(images, scaling, like, unlike, tmp_path):
    run = trained(tmp_path / "run", images, scaling)
    assert [told(run, image) for image in like] == [[]] * len(like)
    assert [len(told(run, image)) for image in unlike] == [1] * len(unlike)


def test_empty_slices_of_a_volume_are_no_concern(tmp_path):
    run = trained(tmp_path / "run", GREY, IntensityConfig())
    assert not told(run, np.concatenate([np.zeros((3, 24, 24, 1)), GREY]))
    empty = np.concatenate([np.zeros((3, 24, 24, 1)), GREY / 255])
    assert "intensities of 0 to" in told(run, empty)[0]


def test_air_is_no_other_unit(tmp_path):
    tissue = 100 + np.random.default_rng(0).normal(0, 20, (20, 24, 24, 1))
    soft = IntensityConfig(mode="window", center=40, width=400)
    run = trained(tmp_path / "crops", tissue, soft)
    whole = np.full((1, 72, 72, 1), -1000.0)
    whole[:, :24, :24] = tissue[:1]
    assert not told(run, whole)
    noise = np.abs(np.random.default_rng(1).normal(0, 3, (6, 24, 24, 1)))
    run = trained(tmp_path / "drawn", GREY * 4, IntensityConfig())
    assert not told(run, np.concatenate([noise, GREY * 4]))  # most slices of it are empty
    assert told(run, noise)


def test_a_run_says_what_it_was_trained_on(tiny_run, tiny_npz, arrays):
    known = tiny_run.section("data")["intensities"]
    assert known["low"][0] == pytest.approx(-25, abs=5)
    assert known["high"][1] == pytest.approx(115, abs=10)
    low, high = np.quantile(arrays["images"].reshape(24, -1), (0.01, 0.99), axis=1)
    assert low.min() <= known["low"][0] <= known["low"][1] <= low.max()
    assert (high - low).min() <= known["contrast"][0] <= (high - low).max()


def test_few_of_many_images_are_looked_at(tmp_path):
    images = np.arange(2.0 * MOST_IMAGES)[:, None, None, None] * np.ones((1, 2, 2, 1))
    split = np.where(np.arange(len(images)) < 3, "val", "train")
    masks = np.ones((len(images), 1, 2, 2), np.uint8)
    dataset = Dataset.from_arrays(images, masks, split=split)
    known = intensities_of(dataset, IntensityConfig())
    assert known["low"] == pytest.approx([3 + 0.01 * 996, 3 + 0.99 * 996], abs=1)
    (path,) = write_prepared(dataset, tmp_path / "data.h5")
    assert intensities_of(load_prepared([path]), IntensityConfig()) == known


def test_few_of_many_pixels_are_looked_at():
    image = np.arange(512.0 * 512).reshape(512, 512, 1)
    thinned = _thinned(image)
    assert MOST_PIXELS / 2 < thinned.size <= MOST_PIXELS
    ends = [np.quantile(values, (0.01, 0.99)) for values in (thinned, image)]
    np.testing.assert_allclose(*ends, atol=0.01 * image.max())
    np.testing.assert_array_equal(_thinned(image[:128, :128]), image[:128, :128])


@pytest.mark.filterwarnings("default")
def test_sampling_warns_in_one_line_and_goes_on(tiny_run, tmp_path):
    image = np.random.default_rng(0).normal(0, 10, (16, 16)).astype("float32")
    for name, factor in (("mm", 1), ("um", 1000)):
        np.save(tmp_path / f"{name}.npy", image * factor)
        out = ("--out", tmp_path / name, "--num-samples", 2)
        done = command("sample", tiny_run.path, tmp_path / f"{name}.npy", *out)
        assert done.exit_code == 0, done.output
        lines = [line for line in done.output.splitlines() if line.startswith("Warning")]
        assert len(lines) == (name == "um")
        assert all(f"{name}.npy: intensities of -2" in line for line in lines)
        assert (tmp_path / name / "masks.npy").is_file()


@pytest.mark.filterwarnings("default")
def test_evaluating_other_data_warns_as_well(tiny_run, arrays, tmp_path):
    for name, factor in (("mm", 1), ("um", 1000)):
        columns = {"images": arrays["images"] * factor, "masks": arrays["masks"]}
        few = {column: values[:3] for column, values in columns.items()}
        np.savez(tmp_path / f"{name}.npz", **few, rater_ids=["ann", "bob", "cy"])
        path = tmp_path / f"{name}.npz"
        done = command("evaluate", tiny_run.path, "--data", path, "--num-samples", 2)
        assert done.exit_code == 0, done.output
        lines = [line for line in done.output.splitlines() if "far from the training's" in line]
        assert len(lines) == (name == "um")


def test_learning_from_other_data_warns_as_well(tiny_run, arrays, tmp_path):
    columns = {"images": arrays["images"] * 1000, "masks": arrays["masks"]}
    np.savez(tmp_path / "um.npz", **columns, rater_ids=["ann", "bob", "cy"])
    source = (tiny_run.path, str(tmp_path / "um.npz"), "cy", tmp_path / "out")
    told = pytest.warns(UserWarning, match="um.npz: .* far from the training's")
    with told, pytest.raises(UsageError, match="a name beside ann, bob, cy"):
        add_rater_to_run(*source, NewRaterConfig())


def test_the_shipped_model_is_for_8_bit_crops():
    shipped = find_run("lidc")
    for grey in (GREY, 255 - GREY, GREY[:, :8, :8]):
        assert not told(shipped, grey)
    for other in (CT, CT + 1024, GREY / 255, GREY * 257):
        (text,) = told(shipped, other)
        assert "far from the training's, 0 to 237 -> bring" in text


def test_a_loaded_model_warns_as_well(tiny_run):
    for model in (load("lidc"), ProSeg.from_pretrained("lidc")):
        model.predict_rater(GREY[0], 0)
        for ask in (model.sample, model.uncertainty, partial(model.predict_rater, rater=0)):
            with pytest.warns(UserWarning, match="`image`: .* far from") as caught:
                ask(CT[0])
            assert caught[0].filename == __file__
    model, few = load(tiny_run.path), NewRaterConfig(steps=1, batch_size=2)
    images, masks = np.random.default_rng(0).normal(0, 10, (2, 16, 16, 1)), np.ones((2, 16, 16))
    with pytest.warns(UserWarning, match="`images`: .* far from"):
        new = add_rater(model, "dee", 1000 * images, masks, few)
    for other in (new, copy.deepcopy(model)):
        assert other.known_intensities == model.known_intensities


def test_older_runs_say_nothing_and_changed_ones_are_refused(tmp_path):
    run = trained(tmp_path / "run", GREY, IntensityConfig())
    for known in (7, {"low": [0, 1]}, {"low": 1, "high": [0, 1], "contrast": [0, 1]},
                  {"low": ["a", 1], "high": [0, 1], "contrast": [0, 1]}):  # fmt: skip
        config = read_json(run.config_file)
        config["data"]["intensities"] = known
        write_json(run.config_file, config)
        with pytest.raises(ProSegError, match="config.json must hold intensities as ranges"):
            told(run, CT)
    del config["data"]["intensities"]
    write_json(run.config_file, config)
    assert not told(run, CT)

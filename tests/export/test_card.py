"""What travels with an export: metadata.json and the model card."""

import json
import shutil

import numpy as np
import pytest
from tiny_data import tiny_arrays

from keras_proseg import pretrained
from keras_proseg.config import ExportConfig, IntensityConfig, NewRaterConfig
from keras_proseg.errors import ProSegError
from keras_proseg.export import card
from keras_proseg.export.metadata import describe, intensity
from keras_proseg.model import ProSeg
from keras_proseg.run_rater import add_rater_to_run
from keras_proseg.runs import Run
from keras_proseg.text_files import write_json


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run(shutil.copytree(tiny_run.path, tmp_path / "run"))


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def card_of(run, model, **settings):
    described = describe(run, model, ExportConfig(**settings))
    return card.model_card({"name": "proseg", "version": 1, **described})


def test_the_card_says_what_a_person_must_know(exported, tiny_run):
    text = (exported / "MODEL_CARD.md").read_text()
    for words in (
        "# proseg, version 1", "ann, bob, cy", "tiny.npz", "dice_rater/bob", "zscore",
        "| the encoder started with | random weights |",
    ):  # fmt: skip
        assert words in text
    assert "simulated" not in text
    metadata = json.loads((exported / "assets" / "metadata.json").read_text())
    metadata["training"]["data"]["images"] = "phantom"
    assert "simulated" in card.model_card(metadata | {"metrics": None})
    assert "stopped before it was scored" in card.model_card(metadata | {"metrics": None})
    metadata["training"]["encoder_weights"] = "imagenet"
    assert "ImageNet weights of EfficientNet-Lite0" in card.model_card(metadata)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mode": "divide", "scale": 255.0}, [0, 255]),
        ({"mode": "window", "center": -400.0, "width": 1600.0}, [-1200, 400]),
        ({"mode": "zscore", "mean": 10.0, "std": 2.0}, [4, 16]),
        ({"mode": "zscore", "mean": (10.0, 0.0), "std": (2.0, 1.0)}, [[4, -3], [16, 3]]),
    ],
)
def test_the_range_of_intensities(settings, expected, run):
    seen = {"low": [-5, 20], "high": [90, 120], "contrast": [80, 100]}
    channels = np.size(settings.get("mean", 0))
    for known, asked in ((None, expected), (seen, [-5, 120] if channels == 1 else expected)):
        data = run.section("data") | {"intensities": known}
        model = {"intensity": settings, "image_channels": channels}
        change(run.config_file, data=data, model=model)
        found = intensity(run, IntensityConfig(**settings))
        assert found == settings | {"range": asked}


def test_the_card_tells_the_scaling_of_every_channel(run):
    settings = {"image_channels": 2, "intensity": {"mean": [10, 0.5], "std": [2, 0.1]}}
    text = card_of(run, ProSeg(["ann", "bob", "cy"], width=4, depth=3, **settings))
    assert "| zscore: mean 10 / 0.5, std 2 / 0.1 |" in text
    assert "| typical intensities | 4 / 0.2 to 16 / 0.8 |" in text


def test_the_card_says_what_the_format_takes(run, tiny_model):
    text = card_of(run, tiny_model, num_samples=5)
    assert "any height and width" in text
    assert "| samples per call | 5 |" in text
    text = card_of(run, tiny_model, format="litert", height=17, width=33, precision="int8")
    assert "height 17 and width 33, no other" in text
    assert "weights int8" in text
    text = card_of(run, tiny_model, format="onnx")
    assert "any height and width" in text
    assert "samples per call | as many as" in text


def test_the_card_says_what_comes_out_and_what_the_raters_are(run, tiny_model):
    text = card_of(run, tiny_model)
    for name in ("probability", "samples", *card.OUTPUTS):
        assert f"| {name} | " in text
    assert "raters are | named" in text
    settings = run.config["train"] | {"rater_order": "area", "spacing": 0.7}
    change(run.config_file, train=settings)
    text = card_of(run, tiny_model)
    assert "raters are | no persons" in text
    assert "pixel spacing | 0.7 mm" in text


def test_the_card_says_on_what_the_metrics_were_scored(run, tiny_model):
    text = card_of(run, tiny_model)
    assert "(val) of tiny.npz" in text
    assert "expect less on others" in text
    unknown = {"ncc": None, "ged_ci": [None, None]}
    change(run.path / "metrics.json", split="test", source="other.npz", **unknown)
    text = card_of(run, tiny_model)
    assert "(test) of other.npz" in text
    assert "expect less" not in text
    assert "nan" not in text
    assert " | unknown |" in text


def test_a_score_of_other_cases_chose_no_weights(run, tiny_model):
    change(run.path / "metrics.json", split="val", source="other.npz")
    text = card_of(run, tiny_model)
    assert "(val) of other.npz" in text
    assert "expect less" not in text


def test_the_card_of_an_added_rater_says_who_the_others_are(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    path = tmp_path / "new.npz"
    np.savez(path, **tiny_arrays(4, raters=2), rater_ids=["dan", "eve"])
    config = NewRaterConfig(steps=1, batch_size=2)

    def added_to(source, rater):
        return add_rater_to_run(source, str(path), rater, tmp_path / rater, config)

    change(run.config_file, train=run.config["train"] | {"rater_order": "area"})
    first = added_to(run.path, "dan")
    text = card_of(first, first.load_model())
    assert "| data | tiny.npz |" in text
    ranks = "sorted by area, ann draws the smallest and cy the largest; dan named as in the data"
    assert ranks in text
    assert "not scored since a rater was added" in text
    assert pretrained.card_of(first) is None
    (pretrained.ship(run.path, tmp_path / "shipped" / "discs") / pretrained.CARD).write_text("who")
    second = added_to("discs", "eve")
    assert pretrained.card_of(second).read_text() == "who"
    assert "| data | what SHIPPED_CARD.md names |" in card_of(second, second.load_model())


def test_findings_travel_as_a_number_without_their_files(run, tiny_model):
    notes = {"slices": 9, "findings": [["/home/ann/LIDC-IDRI-0007/1.dcm", "broken", "mend it"]]}
    train = run.config["train"] | {"dicom": "/home/ann/scans"}
    change(run.config_file, data=run.config["data"] | {"notes": notes}, train=train)
    described = describe(run, tiny_model, ExportConfig())
    assert described["training"]["data"]["notes"] == {"slices": 9, "findings": 1}
    assert "/home/ann" not in json.dumps(described)


def test_what_is_undefined_is_null_in_json(run, tiny_model):
    change(run.path / "metrics.json", ncc=float("nan"))
    assert describe(run, tiny_model, ExportConfig())["metrics"]["ncc"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"train": []},
        {"versions": "1"},
        {"model": 3},
        {"data": {"split": [1]}},
        {"data": {"origin": 3}},
    ],
)
def test_a_config_of_another_shape_is_refused(changes, run, tiny_model):
    change(run.config_file, **changes)
    with pytest.raises(ProSegError, match="must hold .* as names and values"):
        describe(run, tiny_model, ExportConfig())


@pytest.mark.parametrize("text", ["[1]", "null", "{}", '{"ged": "low"}', '{"ged": 1, "split": 2}'])
def test_metrics_of_another_shape_are_refused(text, run, tiny_model):
    (run.path / "metrics.json").write_text(text)
    with pytest.raises(ProSegError, match="must hold the metrics of a run"):
        describe(run, tiny_model, ExportConfig())


def test_the_model_of_another_run_is_refused(run):
    other = ProSeg(raters=["dan", "eve"], width=4, depth=3)
    with pytest.raises(ProSegError, match=r"whose raters are \['dan', 'eve'\]. Received: \['ann'"):
        describe(run, other, ExportConfig())


def test_the_card_says_what_to_bring_images_to(run, tiny_model):
    """Scaling of sizes is no part of the graph."""
    assert "| scale | as it is |" in card_of(run, tiny_model)
    config = run.config
    config["train"] |= {"fit": "resample", "size": 64, "spacing": 0.7}
    config["data"]["notes"] |= {"channels": ["adc", "t2"], "structures": ["cup", "disc"]}
    write_json(run.config_file, config)
    text = card_of(run, tiny_model)
    assert "to 0.7 mm per pixel and the longer side resampled to 64 pixels |" in text
    assert "1 channel(s), in order: adc, t2, raw intensities" in text
    assert "| classes | 1, in order: cup, disc |" in text

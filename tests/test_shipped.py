"""The models that ship with the package, as they are installed."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from keras_proseg_cli.main import main
from scipy.ndimage import gaussian_filter

from keras_proseg import ProSeg, pretrained
from keras_proseg.export import export_saved_model

LINE = {"dice_match": 0.885, "dice_soft": 0.875, "dice_rater": 0.86}
LIMITS = {"ged": 0.155, "fragments": 0.3, "ece": 0.03}


@pytest.fixture(scope="module")
def model():
    return ProSeg.from_pretrained("lidc")


@pytest.fixture(scope="module")
def nodule():
    """A drawn crop of lung, 0 to 255, with a round nodule of 10 pixels; and the nodule's pixels."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((128, 128))
    inside = np.hypot(rows - 64, columns - 64) < 5.5
    wall = columns > 112
    lung = 16 + 4 * gaussian_filter(rng.normal(size=(128, 128)), 1)
    image = gaussian_filter(np.where(inside, 125.0, np.where(wall, 130.0, lung)), 0.7)
    image = 255 * (image - image.min()) / np.ptp(image)
    return image[..., None].astype("float32"), inside


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_shipped_model_finds_a_drawn_nodule(model, nodule):
    image, inside = nodule
    masks = [model.predict_rater(image, rater)[..., 0] > 0.5 for rater in model.raters]
    assert min(dice(mask, inside) for mask in masks) > 0.8
    areas = [mask.sum() for mask in masks]
    assert areas == sorted(areas)
    assert areas[0] < areas[-1]
    samples = model.sample(image, num_samples=8, seed=0)[..., 0] > 0.5
    assert min(dice(sample, inside) for sample in samples) > 0.8


def test_the_name_stands_where_a_run_is_asked(nodule, tmp_path):
    np.save(tmp_path / "image.npy", nodule[0])
    arguments = ["sample", "lidc", tmp_path / "image.npy", "--out", tmp_path / "out"]
    done = CliRunner().invoke(main, [*map(str, arguments), "--rater", "rank1"])
    assert done.exit_code == 0, done.output


def test_the_lines_of_the_card_take_a_ct(nodule):
    image, inside = nodule
    card = (pretrained.FOLDER / "lidc" / "README.md").read_text()
    lines = card.split("```python\n")[1].split("```")[0]
    hounsfield = np.pad(8 * image[..., 0] - 980, ((40, 56), (30, 66)), mode="edge")
    names = {"ct": hounsfield.astype("int16"), "row": 40 + 64, "column": 30 + 64}
    exec(lines, names)
    assert names["samples"].shape == (16, 128, 128, 1)
    assert dice(names["smallest"][..., 0] > 0.5, inside) > 0.8


def test_an_export_brings_the_card_along(tmp_path):
    version = export_saved_model("lidc", tmp_path / "lidc")
    shipped = (pretrained.FOLDER / "lidc" / "README.md").read_text()
    assert (version / "SHIPPED_CARD.md").read_text() == shipped
    text = (version / "MODEL_CARD.md").read_text()
    assert "| data | what SHIPPED_CARD.md names |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| scale |")]
    assert "nodule in the middle, each stretched" in line
    assert "onto 0 to 255: see SHIPPED_CARD.md, Input |" in line
    asked = json.loads((version / "assets" / "metadata.json").read_text())
    assert asked["input"]["scale"] in line


def test_a_readme_in_a_run_is_no_card(tiny_run, tmp_path):
    assert pretrained.card_of(pretrained.find_run("lidc")).is_file()
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    (run / "README.md").write_text("for ourselves")
    assert pretrained.card_of(pretrained.find_run(run)) is None


@pytest.mark.parametrize("name", pretrained.names())
def test_what_ships_is_small_and_says_what_it_is(name):
    folder = pretrained.FOLDER / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    card = (folder / "README.md").read_text()
    for words in ("CC BY 3.0", "Not a medical device", "window", "spacing"):
        assert words in card
    metrics = json.loads((folder / "metrics.json").read_text())
    for metric, least in LINE.items():
        assert f"{metrics[metric]:.3f}" in card
        assert metrics[metric] >= least
    for metric, most in LIMITS.items():
        assert metrics[metric] <= most

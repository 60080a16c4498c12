"""Pictures show what they say: the samples given, every structure, maps on one scale."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tiny_data import tiny_arrays
from tiny_model import tiny

from keras_proseg import Dataset, plotting
from keras_proseg.names import short_names
from keras_proseg.outputs.sample_file import sample_file
from keras_proseg.plotting import (
    Cell,
    _name_colours,
    draw_grid,
    image_cells,
    plot_samples,
    rater_colours,
)


@pytest.fixture(scope="module")
def model():
    return tiny(num_classes=2)


@pytest.fixture
def grids(monkeypatch):
    """The rows of every grid that is drawn."""
    drawn = []
    monkeypatch.setattr(plotting, "draw_grid", lambda rows, *_: drawn.append(rows))
    return drawn


def test_every_structure_has_a_row_of_its_own(model):
    image = tiny_arrays(1)["images"][0]
    samples = np.random.default_rng(0).random((15, 32, 32, 2))
    rows = image_cells(model, image, ["core", "rim"], samples, "bob")
    maps, means = model.uncertainty(image), model.rater_moments(image[None])[0][0]
    for k, (name, row) in enumerate(zip(("core", "rim"), rows, strict=True)):
        assert [cell.caption for cell in row] == [
            f"predicted, by rater: {name}", "12 of 15 samples of bob", "mean probability, 0 to 1",
            "s.d. between raters, 0 to 0.5", "s.d. of boundary, 0 to 0.5",
        ]  # fmt: skip
        assert [cell.top for cell in row] == [None, None, 1.0, 0.5, 0.5]
        masks = [np.stack([mask for mask, _ in cell.outlines]) for cell in row[:2]]
        np.testing.assert_array_equal(masks[0], means[..., k] > 0.5)
        np.testing.assert_array_equal(masks[1], samples[:12, ..., k] > 0.5)
        np.testing.assert_array_equal(row[2].image, maps["mean"][..., k])
        np.testing.assert_allclose(row[3].image ** 2, maps["between_rater"][..., k], atol=1e-7)
        np.testing.assert_allclose(row[4].image ** 2, maps["boundary"][..., k], atol=1e-7)


def test_one_structure_needs_no_name():
    rows = image_cells(tiny(), tiny_arrays(1)["images"][0], ["class1"])
    captions = [cell.caption for cell in rows[0]]
    assert captions[:2] == ["predicted, by rater", "12 diverse samples"]


def test_annotations_stand_beside_what_is_predicted(model, grids, tmp_path):
    arrays = tiny_arrays(8)
    arrays["masks"] = np.stack([arrays["masks"], 1 - arrays["masks"]], axis=-1)
    annotated = np.ones((8, 3), bool)
    annotated[:, 1] = False
    dataset = Dataset.from_arrays(**arrays, annotated=annotated)
    plot_samples(model, dataset, tmp_path / "a.png")
    (rows,) = grids
    assert len(rows) == 4, "two cases of two structures"
    case = int(rows[0][0].caption)
    for k, row in enumerate(rows[:2]):
        np.testing.assert_array_equal(row[0].image, arrays["images"][case, ..., 0])
        drawn = [mask for mask, _ in row[1].outlines]
        np.testing.assert_array_equal(drawn, arrays["masks"][case, [0, 2], ..., k])


def test_cases_are_picked_by_the_dispute_of_those_who_drew():
    """A missing mask is no empty one: else two raters who agree would be the worst dispute."""
    sides = np.array([[20, 20, 20], [20, 16, 12], [20, 12, 4], [20, 20, 0], [14, 14, 0]])
    rows = np.arange(32)
    masks = (rows[:, None] < sides[..., None, None]) & (rows < sides[..., None, None])
    annotated = sides > 0
    images = np.zeros((5, 32, 32, 1), "float32")
    dataset = Dataset.from_arrays(images, masks.astype("uint8"), annotated)
    # By dispute they are 0, 3, 4, 1, 2, and picked from 30 to 95 % of the way.
    assert plotting._pick(dataset, 4) == [3, 4, 1]


def test_the_samples_shown_are_those_written(tiny_run, grids, tmp_path):
    np.save(tmp_path / "three.npy", tiny_arrays(3)["images"])
    sample_file(tiny_run.path, tmp_path / "three.npy", tmp_path / "out", "2", 2, seed=7)
    masks = np.load(tmp_path / "out" / "masks.npy")
    (rows,) = grids
    for row, own in zip(rows, masks, strict=True):
        assert row[1].caption == "2 samples of cy"
        np.testing.assert_array_equal([mask for mask, _ in row[1].outlines], own[..., 0])


def test_a_map_of_little_is_drawn_dark(tmp_path):
    little = np.zeros((8, 8))
    little[2:6, 2:6] = 0.002
    brightest = {}
    for name, cell in (("map", Cell("a", little, top=1.0)), ("gray", Cell("a", little))):
        draw_grid([[cell]], tmp_path / f"{name}.png", "")
        with Image.open(tmp_path / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        middle = pixels[len(pixels) // 2, pixels.shape[1] // 2]
        brightest[name] = int(middle.max())
    assert brightest["map"] < 20
    assert brightest["gray"] == 255


def test_the_colours_of_raters_are_named():
    for count, names in ((3, ["_ann", "bob$", "c" * 40]), (30, [f"r{k}" for k in range(30)])):
        figure = Figure()
        _name_colours(figure, names)
        (legend,) = figure.legends
        shown = [text.get_text().strip() for text in legend.get_texts()]
        assert shown == (["_ann", "bob$", "cccccc...cccccc"] if count == 3 else
                         [f"r{k}" for k in (0, 3, 6, 9, 12, 16, 19, 22, 25, 29)])  # fmt: skip
        colours = rater_colours(count)
        for name, line in zip(shown, legend.get_lines(), strict=True):
            if count == 30:
                assert line.get_color() == colours[names.index(name)]


@pytest.mark.parametrize("kind", ["phantom", "given"])
def test_a_picture_of_simulated_pixels_says_so(kind, monkeypatch, tmp_path):
    titles = []
    monkeypatch.setattr(plotting, "draw_grid", lambda rows, path, title, *_: titles.append(title))
    monkeypatch.setattr(plotting, "image_cells", lambda *_: [[plotting.Cell("", np.eye(4))]])
    dataset = replace(Dataset.from_arrays(**tiny_arrays(4)), image_kind=kind)
    plotting.plot_samples(None, dataset, tmp_path / "a.png")
    assert ("SIMULATED" in titles[0]) == (kind == "phantom")


def test_a_title_is_drawn_above_the_grid(tmp_path):
    for title in ("", plotting.PHANTOM):
        plotting.draw_grid([[plotting.Cell("a", np.eye(4))]], tmp_path / "a.png", title)
        with Image.open(tmp_path / "a.png") as picture:
            red, green, _ = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), 2, 0)
        assert (red - green > 150).any() == bool(title)


def test_names_are_no_formulas(tmp_path):
    plotting.draw_grid([[plotting.Cell("$a_{$", np.eye(4))]], tmp_path / "a.png", "")


def test_there_is_a_picture_of_empty_masks_and_of_many_structures(model_of_five, tmp_path):
    arrays = tiny_arrays(4)
    masks = np.zeros((4, 3, 32, 32, 5), "uint8")
    dataset = Dataset.from_arrays(arrays["images"], masks)
    plotting.plot_samples(model_of_five, dataset, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


@pytest.fixture
def model_of_five():
    return tiny(num_classes=5, views=1, mean_samples=1)


def test_a_rater_has_one_colour_everywhere(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plotting, "draw_grid", lambda rows, *_: drawn.append(rows))
    annotated = np.ones((4, 3), bool)
    annotated[:, 0] = False
    dataset = Dataset.from_arrays(**tiny_arrays(4), annotated=annotated)
    plotting.plot_samples(tiny(views=1), dataset, tmp_path / "a.png")
    colours = plotting.rater_colours(3)
    _, annotations, predicted, *_ = drawn[0][0]
    assert [colour for _, colour in annotations.outlines] == colours[1:]
    assert [colour for _, colour in predicted.outlines] == colours


def test_long_names_that_begin_alike_stay_apart():
    assert short_names([f"Dr. Radiologist {k}" for k in range(3)], 16) == [
        f"Dr. Ra...gist {k}" for k in range(3)
    ]
    alike = [f"hospital-{k}-department" for k in "ab"]
    assert short_names(alike, 16) == ["1 hosp...rtment", "2 hosp...rtment"]

"""The README's examples in Python, as they stand."""

import re
from functools import partial
from pathlib import Path

import numpy as np

import keras_proseg
from keras_proseg import new_rater
from keras_proseg.config import NewRaterConfig

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_work_as_pasted(monkeypatch):
    shipped = keras_proseg.load("lidc")
    monkeypatch.setattr(keras_proseg, "load", {"runs/my-run": shipped}.get, raising=False)
    monkeypatch.setattr(new_rater, "NewRaterConfig", partial(NewRaterConfig, steps=2))
    images = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 1))
    names = {"image": images[0], "images": images, "masks": images[..., 0] > 200}
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    exec(code, names)
    assert names["mean"].shape == (32, 32, 1)
    assert set(names["maps"]) == {"mean", "total", "between_rater", "boundary"}
    assert names["anyone"].shape == (16, 32, 32, 1)
    assert names["new"].raters == [*shipped.raters, "me"]
    assert names["mine"].shape == (32, 32, 1)

"""Tiny data and one tiny trained run, shared by the tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

TINY = {"width": 4, "mean_samples": 3, "val_cases": 4, "val_samples": 3, "num_samples": 4}


def tiny_arrays(count=24, size=32, raters=3, seed=0):
    """Bright discs; rater k draws a radius of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images = rng.normal(0, 10, (count, size, size, 1)).astype(np.float32)
    masks = np.zeros((count, raters, size, size), np.uint8)
    for case in range(count):
        y, x = rng.uniform(size * 0.35, size * 0.65, 2)
        distance = np.hypot(rows - y, columns - x)
        images[case, ..., 0] += 100 * (distance < 7)
        for rater in range(raters):
            masks[case, rater] = distance < 4.5 + 2.5 * rater
    return {"images": images, "masks": masks}


@pytest.fixture
def arrays():
    return tiny_arrays()


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    patients = [f"p{k // 2}" for k in range(24)]
    np.savez(path, **tiny_arrays(), patient_ids=patients, rater_ids=["ann", "bob", "cy"])
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_npz, tmp_path_factory):
    from keras_proseg.training import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    return train(str(tiny_npz), out, log=lambda line: None, steps=8, batch_size=4, **TINY)


@pytest.fixture(scope="session")
def tiny_model(tiny_run):
    from keras_proseg import load

    return load(tiny_run.path)

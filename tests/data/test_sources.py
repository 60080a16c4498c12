import numpy as np
import pytest

from keras_proseg.config import TrainConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.npz import load_npz
from keras_proseg.data.sources import load_dataset
from keras_proseg.data.split import split_dataset, subset
from keras_proseg.errors import ProSegError, UsageError


def test_groups_are_never_cut(tiny_npz):
    dataset = load_dataset(str(tiny_npz))
    sides = {p: set(dataset.split[dataset.patients == p]) for p in dataset.patients}
    assert all(len(side) == 1 for side in sides.values())
    assert set(dataset.split) == {"train", "val", "test"}
    again = load_dataset(str(tiny_npz), TrainConfig(seed=1))
    assert (dataset.split != again.split).any()


def test_images_group_when_there_are_no_patients(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays, image_ids=np.repeat(np.arange(6), 4), extra=np.ones(2))
    dataset = load_npz(tmp_path / "a.npz")
    assert dataset.group_by == "image_ids"
    assert len(set(dataset.patients)) == 6


def test_no_groups_warn_once(arrays):
    with pytest.warns(UserWarning, match="patient of its own") as caught:
        split_dataset(Dataset.from_arrays(**arrays))
    assert len(caught) == 1


def test_area_order_for_any_source(tiny_npz):
    assert load_dataset(str(tiny_npz), TrainConfig(rater_order="area")).raters[0] == "rank1"
    assert load_dataset(str(tiny_npz)).raters == ("ann", "bob", "cy")


def test_a_split_column_is_used_and_checked(tmp_path, arrays):
    split = np.array(["train"] * 16 + ["val"] * 8)
    np.savez(tmp_path / "a.npz", **arrays, split=split, patient_ids=np.arange(24))
    dataset = load_dataset(str(tmp_path / "a.npz"))
    assert len(subset(dataset, "val")) == 8
    assert len(subset(dataset, "all")) == 24
    with pytest.raises(UsageError, match="train, val. Received: test"):
        subset(dataset, "test")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"split": ["train", "val"] * 12, "patients": ["p"] * 24}, "disjoint by group"),
        ({"split": ["dev"] * 24}, "of train, val, test"),
        ({"patients": ["p"] * 24}, "at least 3 groups"),
    ],
)
def test_bad_splits_are_refused(arrays, columns, words):
    with pytest.raises(ProSegError, match=words):
        split_dataset(Dataset.from_arrays(**arrays, **columns))


def test_unknown_sources(tmp_path):
    with pytest.raises(UsageError, match="`lidc` or a .npz"):
        load_dataset("mri")
    with pytest.raises(UsageError, match="existing"):
        load_npz(tmp_path / "none.npz")


def _corrupt(tmp_path, kind, arrays):
    path = tmp_path / f"{kind}.npz"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "single":
        with path.open("wb") as handle:
            np.save(handle, arrays["images"])
    elif kind == "objects":
        np.savez(path, images=np.array([{}], object), masks=arrays["masks"])
    elif kind == "missing":
        np.savez(path, images=arrays["images"], labels=arrays["masks"])
    elif kind == "shape":
        np.savez(path, images=arrays["images"], masks=arrays["masks"][:3])
    else:
        np.savez(path, **arrays)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind", ["empty", "single", "objects", "missing", "shape", "truncated"])
def test_damaged_files_are_named_in_one_line(tmp_path, kind, arrays):
    path = _corrupt(tmp_path, kind, arrays)
    with pytest.raises(ProSegError, match="Received: ") as caught:
        load_npz(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

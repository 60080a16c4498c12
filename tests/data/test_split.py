"""Splits are by group, seeded, and refused where a group lies on two sides."""

import warnings

import numpy as np
import pytest
from tiny_data import tiny_arrays

from keras_proseg import Dataset, ProSegError, UsageError
from keras_proseg.config import TrainConfig
from keras_proseg.data.formats.npz import load_npz
from keras_proseg.data.sources import load_dataset
from keras_proseg.data.split import split_dataset, split_rows, subset


def by_patient(count=60):
    arrays = tiny_arrays(count, size=8)
    return Dataset.from_arrays(**arrays, patients=np.arange(count) // 3)


def test_a_drawn_split_keeps_groups_whole_in_the_stated_shares():
    dataset = split_dataset(by_patient(), seed=0)
    sides = [set(dataset.patients[dataset.split == n].tolist()) for n in ("train", "val", "test")]
    assert [len(side) for side in sides] == [14, 2, 4]
    assert len(set.union(*sides)) == 20
    again, other = split_dataset(by_patient(), 0), split_dataset(by_patient(), 1)
    np.testing.assert_array_equal(again.split, dataset.split)
    assert (other.split != dataset.split).any()
    whole = sum(len(subset(dataset, name)) for name in ("train", "val", "test"))
    assert whole == len(subset(dataset, "all")) == 60


def test_cases_without_patients_are_groups_of_their_own_with_one_warning():
    dataset = Dataset.from_arrays(**tiny_arrays(12, size=8))
    with pytest.warns(UserWarning, match="every case counts as a patient of its own") as told:
        split_dataset(dataset)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_dataset(by_patient())


def test_too_few_groups_are_not_split():
    dataset = Dataset.from_arrays(**tiny_arrays(4, size=8), patients=[0, 0, 1, 1])
    with pytest.raises(ProSegError, match=r"at least 3 groups .*Received: 2"):
        split_dataset(dataset)


def write(path, **columns):
    np.savez(path, **(tiny_arrays(6, size=8) | columns))
    return path


def test_a_files_own_split_is_used(tmp_path):
    sides = np.array(["train"] * 4 + ["val"] * 2)
    path = write(tmp_path / "a.npz", split=sides, image_ids=np.arange(6) // 2)
    dataset = split_dataset(load_npz(path))
    np.testing.assert_array_equal(dataset.split, sides)
    assert dataset.group_by == "image_ids"
    with pytest.raises(UsageError, match="that the data has: train, val. Received: test"):
        split_rows(dataset, "test")


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (["train", "val", "train", "train", "val", "val"], r"disjoint by group. Received: 1 group"),
        (["train"] * 4 + ["held"] * 2, r"of train, val, test. Received: \['held'\]"),
    ],
)
def test_a_split_that_cannot_be_used(tmp_path, sides, words):
    path = write(tmp_path / "a.npz", split=np.array(sides), patient_ids=np.arange(6) // 2)
    with pytest.raises(ProSegError, match=words):
        split_dataset(load_npz(path))


def test_runs_of_all_seeds_have_the_same_sides(tmp_path):
    np.savez(tmp_path / "a.npz", **tiny_arrays(30, size=8), patient_ids=np.arange(30) // 2)
    first, other, drawn_anew = (
        load_dataset(str(tmp_path / "a.npz"), TrainConfig(**settings)).split
        for settings in ({}, {"seed": 1}, {"split_seed": 1})
    )
    np.testing.assert_array_equal(other, first)
    assert (drawn_anew != first).any()
    with pytest.raises(UsageError, match="`split_seed` must be a whole number .* Received: -1"):
        TrainConfig(split_seed=-1)


def test_shares_are_rounded_and_not_cut():
    split = split_dataset(by_patient(57)).split  # of 19 patients with 3 cases each
    assert [int((split == name).sum()) // 3 for name in ("train", "val", "test")] == [13, 2, 4]

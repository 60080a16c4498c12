"""The npz source: its defaults, and files that are refused."""

import numpy as np
import pytest
from tiny_data import tiny_arrays

from keras_proseg import Dataset, ProSegError, UsageError
from keras_proseg.config import DataConfig
from keras_proseg.data.findings import DataError
from keras_proseg.data.formats.npz import load_npz
from keras_proseg.data.places import resize
from keras_proseg.data.sources import read_dataset


def write(path, **columns):
    np.savez(path, **(tiny_arrays(6, size=8) | columns))
    return path


def test_columns_have_defaults_and_others_are_ignored(tmp_path):
    dataset = load_npz(write(tmp_path / "a.npz", nodule_ids=np.arange(6)))
    assert dataset.raters == ("rater1", "rater2", "rater3")
    assert dataset.case_ids.tolist() == [str(k) for k in range(6)]
    assert (dataset.annotated.all(), dataset.group_by, dataset.split) == (True, "case_ids", None)
    assert dataset.masks.shape == (6, 3, 8, 8, 1)


def test_patients_go_before_images_and_unannotated_masks_are_not_looked_at(tmp_path):
    masks = tiny_arrays(6, size=8)["masks"]
    masks[0, 1] = 7
    annotated = np.ones((6, 3), bool)
    annotated[0, 1] = annotated[5] = False
    groups = {"patient_ids": np.arange(6) // 3, "image_ids": np.arange(6)}
    path = write(tmp_path / "a.npz", masks=masks, annotated=annotated, **groups)
    dataset = load_npz(path)
    assert (len(dataset), dataset.dropped, dataset.group_by) == (5, 1, "patient_ids")
    assert not dataset.masks[0, 1].any()


def test_files_that_hold_something_else(tmp_path):
    with pytest.raises(UsageError, match="an existing .npz file"):
        load_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "names.npz", image=np.zeros((2, 8, 8, 1)))
    with pytest.raises(ProSegError, match=r"names.npz must hold arrays .*no images, masks"):
        load_npz(tmp_path / "names.npz")
    path = write(tmp_path / "objects.npz", images=np.array([{}] * 6))
    with pytest.raises(ProSegError, match="whole .npz of plain arrays"):
        load_npz(path)
    whole = write(tmp_path / "whole.npz").read_bytes()
    for end in (0, 40, len(whole) // 2, len(whole) - 9):
        (tmp_path / "cut.npz").write_bytes(whole[:end])
        with pytest.raises(ProSegError, match=r"cut.npz must be a whole .npz"):
            load_npz(tmp_path / "cut.npz")
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ProSegError, match="no npz archive"):
        load_npz(tmp_path / "array.npz")


def test_bad_masks_are_named_with_file_and_case(tmp_path):
    masks = tiny_arrays(6, size=8)["masks"]
    masks[3, 0, 0, 0] = 9
    path = write(tmp_path / "a.npz", masks=masks)
    with pytest.raises(ProSegError, match=r"a.npz: masks must be 0/1.*9\] in case 3"):
        load_npz(path)


def test_settings_of_scale_and_slices_are_those_of_any_source(tmp_path):
    masks = tiny_arrays(6, size=8)["masks"]
    masks[2] = 0
    columns = {"masks": masks, "spacing": np.full((6, 2), 0.5), "rater_ids": ["b", "c", "a"]}
    columns |= {"split": ["train"] * 4 + ["val", "test"], "annotated": np.eye(6, 3, dtype=bool)}
    columns["annotated"][3:] = True
    path = str(write(tmp_path / "a.npz", **columns))
    plain = read_dataset(path)
    coarse = read_dataset(path, DataConfig(spacing=1.0, slices="drawn"))
    kept = [0, 1, 3, 4, 5]
    assert coarse.raters == ("b", "c", "a")
    assert coarse.images.shape == (5, 4, 4, 1)
    np.testing.assert_allclose(coarse.spacing, 1.0)
    np.testing.assert_array_equal(coarse.annotated, plain.annotated[kept])
    assert coarse.case_ids.tolist() == plain.case_ids[kept].tolist()
    assert coarse.split.tolist() == plain.split[kept].tolist()
    np.testing.assert_allclose(coarse.images[3], resize(plain.images[4], (4, 4)), atol=1e-5)
    halved = resize(plain.masks[4, 2], (4, 4), False) >= 0.5
    np.testing.assert_array_equal(coarse.masks[3, 2], halved)
    cropped = read_dataset(path, DataConfig(fit="crop", size=6))
    np.testing.assert_array_equal(cropped.images, plain.images[:, 1:7, 1:7])
    del columns["spacing"]
    with pytest.raises(DataError, match="no pixel spacing is known, which --spacing needs"):
        read_dataset(str(write(tmp_path / "b.npz", **columns)), DataConfig(spacing=1.0))


def test_cases_left_out_are_counted_at_any_scale(tmp_path):
    annotated = np.ones((6, 3), bool)
    annotated[5] = False
    np.savez(tmp_path / "a.npz", **tiny_arrays(6, size=8), annotated=annotated)
    assert read_dataset(str(tmp_path / "a.npz"), DataConfig(fit="crop", size=6)).dropped == 1


def test_names_of_raters_may_be_bytes(tmp_path):
    np.savez(tmp_path / "a.npz", **tiny_arrays(6, size=8), rater_ids=np.array([b"a", b"b", b"c"]))
    assert read_dataset(str(tmp_path / "a.npz")).raters == ("a", "b", "c")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("patient_ids", ["a", "", "b", "", "c", "d"]),
        ("patient_ids", ["a", "NA", "b", "b", "c", "d"]),
        ("patient_ids", [1.0, float("nan"), 2.0, 3.0, 4.0, 5.0]),
        ("case_ids", ["a", "b", "c", "d", "e", ""]),
    ],
)
def test_cases_without_a_name_are_refused(column, values, tmp_path):
    np.savez(tmp_path / "a.npz", **tiny_arrays(6, size=8), **{column: values})
    with pytest.raises(DataError, match="a name or number for every case. Received: "):
        read_dataset(str(tmp_path / "a.npz"))


def test_names_have_one_spelling(tmp_path):
    ids = ["p1", "p1 ", "Zoe\u0308", "Zo\u00eb", "p2", "p3"]
    raters = ["Zoe\u0308", " b", "c"]
    path = write(tmp_path / "a.npz", patient_ids=ids, rater_ids=raters)
    dataset = read_dataset(str(path))
    assert dataset.raters == ("Zo\u00eb", "b", "c")
    assert len(set(dataset.patients.tolist())) == 4
    with pytest.raises(DataError, match="raters must be 3 distinct names"):
        read_dataset(str(write(path, rater_ids=["Zo\u00eb", "Zoe\u0308", "c"])))


@pytest.mark.parametrize("raters", [[["a", "b"]] * 3, [["a"], ["b", "c"], "d"], "abc", 3, ["a"]])
def test_raters_that_are_no_names_are_refused(raters):
    with pytest.raises(DataError, match="raters must be 3 distinct names"):
        Dataset.from_arrays(**tiny_arrays(6, size=8), raters=raters)


def test_raters_may_be_the_keys_of_a_dict():
    names = {"ann": 1, "bob": 2, "cy": 3}
    for raters in (names.keys(), iter(names), np.array(list(names))):
        dataset = Dataset.from_arrays(**tiny_arrays(6, size=8), raters=raters)
        assert dataset.raters == tuple(names)


@pytest.mark.parametrize("odd", [-1, 9])
def test_whoever_is_annotated_is_so_or_not(odd, tmp_path):
    annotated = np.ones((6, 3), np.int8)
    assert load_npz(write(tmp_path / "a.npz", annotated=annotated)).annotated.all()
    annotated[2, 1] = odd
    with pytest.raises(ProSegError, match=f"annotated must be true or false.*{odd}"):
        load_npz(write(tmp_path / "b.npz", annotated=annotated))


def test_columns_of_a_table_are_the_names_they_hold(arrays):
    names = np.array([f"p{k}" for k in range(24)], dtype=object)
    dataset = Dataset.from_arrays(**arrays, patients=names, case_ids=names)
    assert dataset.patients.dtype.kind == "U"
    assert dataset.case_ids.tolist() == names.tolist()
    names[3] = None
    with pytest.raises(ProSegError, match="patients must be strings or numbers"):
        Dataset.from_arrays(**arrays, patients=names)

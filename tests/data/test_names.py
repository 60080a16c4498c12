"""Channels and structures are known by their names, in other data too."""

import numpy as np
import pytest
import source_files as files
from test_cli import run
from tiny_data import tiny_arrays

from keras_proseg import training
from keras_proseg.data.sources import read_dataset
from keras_proseg.errors import ProSegError
from keras_proseg.outputs.sample_file import sample_file
from keras_proseg.run_data import cases_of_run, names_of
from keras_proseg.run_rater import add_rater_to_run
from keras_proseg.runs import Run

SPELLINGS = [["t1", "\u00e9"], ["t1", "e\u0301"]]


def manifest(root, structures):
    """Five cases, each with a mask of every structure."""
    content = files.cases(5)
    lines = ["case,patient,image,rater,mask,structure"]
    for case, (image, masks) in content.items():
        files.save_nifti(root / f"{case}.nii", image)
        for number, name in enumerate(structures):
            files.save_nifti(root / f"{case}-{name}.nii", np.roll(masks["ann"], number))
            lines.append(f"{case},{case},{case}.nii,ann,{case}-{name}.nii,{name}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root / "manifest.csv"


def folder(root, channels):
    for number, (image, masks) in enumerate(files.cases(5).values()):
        case = root / ("train", "val")[number % 2] / f"case{number}"
        for name in channels:
            files.save_nifti(case / f"image-{name}.nii", image)
        files.save_nifti(case / "mask-ann.nii", masks["ann"])
    return root


@pytest.mark.parametrize(
    ("write", "names", "others", "kind"),
    [
        (manifest, ["liver", "tumour"], ["kidney", "liver"], "structures"),
        (folder, ["t1", "t2"], ["flair", "t1"], "channels"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_a_run_takes_data_of_its_own_names_only(write, names, others, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_trained", lambda run, *_: run)
    trained = training.train(str(write(tmp_path / "a", names)), tmp_path / "r", log=len)
    assert names_of(Run.open(trained.path)) == {kind: names}
    same, other = write(tmp_path / "b", names[::-1]), write(tmp_path / "c", others)
    assert len(cases_of_run(trained, str(same), "all")) == 5
    words = rf"must have the {kind} {names}, as .* has. Received: {others}".replace("[", r"\[")
    with pytest.raises(ProSegError, match=words):
        cases_of_run(trained, str(other), "all")
    with pytest.raises(ProSegError, match=words):
        add_rater_to_run(trained.path, str(other), "ann", tmp_path / "new")
    prepared = tmp_path / "prepared"
    assert run("data", "prepare", other, "--out", prepared).exit_code == 0
    with pytest.raises(ProSegError, match=words):
        cases_of_run(trained, str(prepared), "all")


def test_a_channels_name_has_one_spelling(tmp_path):
    written = [folder(tmp_path / str(k), names) for k, names in enumerate(SPELLINGS)]
    assert [read_dataset(str(root)).notes["channels"] for root in written] == [SPELLINGS[0]] * 2


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_what_has_no_names_is_counted_only(tmp_path, tiny_npz, tiny_run):
    assert len(cases_of_run(tiny_run, str(tiny_npz), "all")) == 24
    one = read_dataset(str(manifest(tmp_path / "a", ["liver"])))
    assert "structures" not in one.notes


def test_a_structure_that_a_rater_never_drew_is_told(tmp_path):
    """An export of one structure that failed; the other one hides it in the masks as a whole."""
    arrays = tiny_arrays(6)
    masks = np.stack([arrays["masks"], arrays["masks"]], axis=-1)
    masks[:, 2, ..., 1] = 0
    columns = {"patient_ids": np.arange(6), "rater_ids": ["ann", "bob", "cy"]}
    np.savez(tmp_path / "x.npz", images=arrays["images"], masks=masks, **columns)
    done = run("data", "verify", tmp_path / "x.npz")
    assert "every mask of rater cy is empty in structure class2 -> look at the files" in done.output
    assert done.output.count("every mask") == 1
    assert "covers the whole" not in done.output
    masks[3, 1, ..., 1] = 1
    np.savez(tmp_path / "x.npz", images=arrays["images"], masks=masks, **columns)
    assert "a mask covers the whole image (3)" in run("data", "verify", tmp_path / "x.npz").output


def test_a_run_tells_the_order_of_channels_and_structures(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_trained", lambda run, *_: run)
    told = []
    trained = training.train(
        str(folder(tmp_path / "a", ["t2", "adc"])), tmp_path / "r", told.append
    )
    assert "Channels, in order: adc, t2" in told
    np.save(tmp_path / "one.npy", np.zeros((32, 32), "float32"))
    with pytest.raises(
        ProSegError, match=r"one.npy must be of 2 channel\(s\): adc, t2. Received: 1"
    ):
        sample_file(trained.path, tmp_path / "one.npy", tmp_path / "out")
    told.clear()
    source = str(manifest(tmp_path / "b", ["tumour", "liver"]))
    training.train(source, tmp_path / "s", told.append)
    assert "Structures, in order: liver, tumour" in told


def test_a_channel_that_lies_elsewhere_than_the_first_is_named(tmp_path):
    root = folder(tmp_path / "a", ["t1", "t2"])
    image = files.cases(1)["case0"][0]
    moved = files.AFFINE.copy()
    moved[0, 3] += 2
    files.save_nifti(root / "train" / "case0" / "image-t2.nii", image, moved)
    done = run("data", "verify", root)
    assert done.exit_code == 1
    (line,) = [line for line in done.output.splitlines() if "case0/image-t2.nii" in line]
    assert "its affine puts a corner 2.00 mm from the image's" in line

"""Channels and structures are known by their names, in other data too."""

import numpy as np
import pytest
import source_files as files
from test_cli import run

from keras_proseg import training
from keras_proseg.data.sources import read_dataset
from keras_proseg.errors import ProSegError
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


def test_what_has_no_names_is_counted_only(tmp_path, tiny_npz, tiny_run):
    assert len(cases_of_run(tiny_run, str(tiny_npz), "all")) == 24
    one = read_dataset(str(manifest(tmp_path / "a", ["liver"])))
    assert "structures" not in one.notes

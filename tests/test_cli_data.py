"""The commands of `keras-proseg data`."""

import nibabel
import numpy as np
import pytest
import source_files as files
from test_cli import run

from keras_proseg import evaluation
from keras_proseg.data.findings import note_lines


def damage(root):
    """One case for every kind of thing that can be wrong with a NIfTI folder."""
    image, masks = files.cases(1)["case0"]
    for case in "abcdefg":
        own = image + ord(case)
        if case == "a":
            own[3, 4] = np.nan
        files.save_nifti(root / case / "image.nii", own.astype("float32"))
        files.save_nifti(root / case / "mask-ann.nii", masks["ann"])
    files.save_nifti(root / "b" / "mask-ann.nii", masks["ann"][:16])
    shifted = files.AFFINE.copy()
    shifted[0, 3] += 2
    files.save_nifti(root / "c" / "mask-ann.nii", masks["ann"], shifted)
    files.save_nifti(root / "d" / "mask-ann.nii", masks["ann"] * 3)
    files.save_nifti(root / "e" / "mask-ann.nii", masks["ann"] * 0)
    (root / "f" / "mask-ann.nii").write_bytes(b"nothing")
    (root / "g" / "notes.nii").write_bytes(b"nothing")
    (root / "g" / "image.nii").unlink()


FINDINGS = {
    "a": "1 values are not finite and between -1e+15 and 1e+15 -> mend the image",
    "b": "size (slices, H, W) (1, 16, 32) where the image has (1, 32, 32) -> draw or resample",
    "c": "its affine puts a corner 2.00 mm from the image's",
    "d": "values [0, 3] where 0/1 must be -> make the mask 0/1",
    "f": "must be a whole .nii file",
    "g": "masks without an image",
}


def test_verify_names_everything_at_once_and_train_refuses_with_the_same_words(tmp_path):
    damage(tmp_path)
    done = run("data", "verify", tmp_path)
    assert done.exit_code == 1
    errors = [line[6:] for line in done.output.splitlines() if line.startswith("ERROR")]
    assert len(errors) == len(FINDINGS)
    for case, words in FINDINGS.items():
        (line,) = [e for e in errors if e.startswith(str(tmp_path / case))]
        assert words in line
        assert " -> " in line
    assert "neither image nor mask" in done.output
    refused = run("train", "--data", tmp_path, "--out", tmp_path / "run")
    assert refused.exit_code == 1
    said = [line.removeprefix("Error: ") for line in refused.output.splitlines()]
    assert said == errors
    assert not (tmp_path / "run").exists()


def test_verify_of_good_data(tmp_path):
    path = files.write_manifest(tmp_path, files.cases())
    done = run("data", "verify", path)
    assert done.exit_code == 0, done.output
    assert "6 cases of 3 patients (patient_ids), 32x32x1; 1 structure(s); raters ann, bob, cy" in (
        done.output
    )
    assert done.output.endswith("manifest.csv: 0 to mend, 0 to know.\n")


def test_empty_masks_are_told_but_may_be_meant(tmp_path):
    root = files.write_png(tmp_path, files.cases(3))
    (root / "case0" / "mask-ann.png").write_bytes(blank_png())
    done = run("data", "verify", root)
    assert done.exit_code == 0
    assert "note" in done.output
    assert "1 of 8 masks are empty" in done.output


def with_an_odd_column_and_an_empty_mask(root):
    path = files.write_manifest(root, files.cases())
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},site", *(f"{line},x" for line in lines)]))
    files.save_nifti(root / "ann" / "case0.nii.gz", np.zeros((32, 32), np.uint8))
    return path


NOTES = ("a column site that is not read", "1 of 17 masks are empty")


def test_what_need_not_be_mended_is_told_by_prepare_and_train_too(tmp_path, monkeypatch):
    from keras_proseg import training

    path = with_an_odd_column_and_an_empty_mask(tmp_path / "source")
    out = tmp_path / "prepared"
    lines, done = [], run("data", "prepare", path, "--out", out)
    monkeypatch.setattr(training, "_trained", lambda run, *_: run)
    training.train(str(path), tmp_path / "run", log=lines.append)
    again = run("data", "verify", out).output  # which no longer holds the column
    for words in NOTES:
        assert any(line.startswith(f"note  {path}: {words}") for line in lines)
        assert f"note  {path}: {words}" in done.output
        assert again.count(words) == 1


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_it_is_told_of_other_data_that_a_run_is_shown(tiny_run, tmp_path, monkeypatch):
    path = with_an_odd_column_and_an_empty_mask(tmp_path / "source")
    summary = dict.fromkeys(("num_cases", "num_patients", "num_samples", "images"), 1)
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: (summary, []))
    scored = run("evaluate", tiny_run.path, "--data", path)
    added = run(
        "add-rater", tiny_run.path, "--data", path, "--rater", "ann", "--out", tmp_path / "r"
    )
    assert (scored.exit_code, added.exit_code) == (0, 2), scored.output + added.output
    for words in NOTES:
        assert f"note  {path}: {words}" in scored.output
        assert f"note  {path}: {words}" in added.output


def test_few_of_many_notes_are_shown():
    notes = {"findings": [[f"{k}.nii", "odd", "look"] for k in range(8)]}
    shown = note_lines(notes)
    assert shown[0] == "note  0.nii: odd -> look"
    assert shown[5:] == ["3 more; `keras-proseg data verify` names all."]
    assert note_lines({}) == []


def test_blank_slices_of_a_volume_are_one_note(tmp_path):
    image, masks = files.cases(1)["case0"]
    volume = np.stack([image, image * 0, image * 0], axis=2)
    files.save_nifti(tmp_path / "a" / "image.nii", volume)
    files.save_nifti(tmp_path / "a" / "mask-ann.nii", np.stack([masks["ann"]] * 3, axis=2))
    output = run("data", "verify", tmp_path).output
    assert "all pixels are equal (a/z001, a/z002)" in output


def blank_png():
    import io

    from PIL import Image

    Image.fromarray(np.zeros((32, 32), np.uint8)).save(stream := io.BytesIO(), "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("case,image,rater\n", "no column mask"),
        ("case,patient,image,rater,mask\n", "no rows"),
        ("case,patient,image,rater,mask\na,p,none.nii,ann,none.nii\n", "existing file"),
        ("case,patient,image,rater,mask\na,p,i.txt,ann,i.txt\n", "must be one of .npz"),
        ("case,patient,image,rater,mask\na,p,i.nii,ann\n", "row 2: more or fewer fields"),
        ("case,patient,image,rater,mask\na,p,i.nii,ann,\n", "row 2: an empty case or image"),
        ("case,patient,image,rater,mask\na,,i.nii,ann,m.nii\n", "row 2: an empty patient"),
        ("case,patient,image,rater,mask\n\n\na,,i.nii,ann,m.nii\n", "row 4: an empty patient"),
        ("case,patient,image,rater,mask\na,NaN,i.nii,ann,m.nii\n", "row 2: NaN for a patient"),
        (
            "case,patient,image,rater,mask\na,p,i.nii,ann,m.nii\n,,,,\n,,x,,\n",
            "row 4: an empty case or image",
        ),
        ("case,image,rater,mask,split\na,i.nii,ann,m.nii,left\n", "row 2: unknown split left"),
        (
            "case,patient,image,rater,mask\na,p,i.nii,ann,m.nii\na,q,i.nii,ann,m.nii\n",
            "more than one patient: p, q",
        ),
        (
            "case,image,rater,mask\na,i.nii,ann,m.nii\na,i.nii,ann,m.nii\n",
            "case a has 2 masks of rater ann",
        ),
        ("case,image,rater,mask\na,i.nii,,\n", "no case with an image and a mask"),
        (
            "case,image,rater,mask\na,i.nii,ann,m.nii\na,j.nii;k.nii,bob,m.nii\n",
            "k.nii -> give every row of a case the same image",
        ),
        (
            "case,image,rater,mask,split\na,i.nii,ann,m.nii,train\na,i.nii,bob,m.nii,\n",
            "more than one split: none, train",
        ),
        ("case,image,rater,mask\na,i.jpg,ann,m.nii\n", "-> save it as one of these kinds"),
        ("case,image,rater,mask\na,i.nii;k.nii,ann,m.nii\n", "the channels' sizes"),
        (
            "case,image,rater,mask,split\na,i.nii,ann,m.nii,train\nb,j.nii,ann,m.nii,\n",
            "some cases have a split and some none",
        ),
        (
            "case,image,rater,mask\na,i.nii,ann,m.nii\nb,i.nii;j.nii,ann,m.nii\n",
            "cases have 1 or 2 channels",
        ),
        ("case,image,rater,mask\n\xff", "no CSV in UTF-8"),
    ],
)
def test_manifests_with_mistakes(lines, words, tmp_path):
    image, masks = files.cases(1)["case0"]
    files.save_nifti(tmp_path / "i.nii", image)
    files.save_nifti(tmp_path / "j.nii", image + 1)
    files.save_nifti(tmp_path / "k.nii", image[:8])
    files.save_nifti(tmp_path / "m.nii", masks["ann"])
    (tmp_path / "i.txt").touch()
    (tmp_path / "i.jpg").touch()
    (tmp_path / "m.csv").write_bytes(lines.encode("latin1"))
    done = run("data", "verify", tmp_path / "m.csv")
    assert done.exit_code == 1, done.output
    assert words in done.output
    assert "Traceback" not in done.output
    assert "PosixPath" not in done.output
    causes = [line for line in done.output.splitlines() if line.startswith("error")]
    assert len(causes) == 1 or not any("no case with" in line for line in causes)


def test_geometry_that_is_claimed_by_one_file_only_is_told(tmp_path):
    for name, (image, masks) in files.cases(3).items():
        files.save_nifti(tmp_path / name / "image.nii", image)
        bare = nibabel.Nifti1Image(masks["ann"], None)
        bare.set_sform(None, 0)
        bare.set_qform(None, 0)
        nibabel.save(bare, tmp_path / name / "mask-ann.nii")
    done = run("data", "verify", tmp_path)
    assert done.exit_code == 0, done.output
    assert "no position in space" in done.output


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"patient_ids": [b"a"] * 12 + [b"b"] * 12}, 0, "cases of 2 patient_ids, and no split"),
        ({"split": ["val"] * 24}, 0, "no case in train -> a training needs"),
        ({"split": ["train"] * 24}, 0, "no case in val"),
        (
            {"split": ["train", "val"] * 12, "annotated": [[1, 1, 0], [1, 1, 1]] * 12},
            0,
            "rater rater3 has no mask in train -> a training cannot learn their manner",
        ),
        ({"patient_ids": [b"\xff\xfe"] * 24}, 1, "patients must be UTF-8"),
    ],
)
def test_what_a_training_would_refuse_is_told(columns, code, words, tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays, **columns)
    done = run("data", "verify", tmp_path / "x.npz")
    assert done.exit_code == code, done.output
    assert words in done.output


def test_npz_with_several_mistakes(tmp_path, arrays):
    arrays["images"][2, 3, 4] = np.nan
    np.savez(
        tmp_path / "x.npz", **arrays, rater_ids=["a", "a", "b"], patient_ids=["p"],
        spacing=np.ones(3),
    )  # fmt: skip
    done = run("data", "verify", tmp_path / "x.npz")
    assert done.exit_code == 1
    assert "images must be finite" in done.output
    arrays["images"][2, 3, 4] = 0
    np.savez(
        tmp_path / "x.npz", **arrays, rater_ids=["a", "a", "b"], patient_ids=["p"],
        spacing=np.ones(3),
    )  # fmt: skip
    done = run("data", "verify", tmp_path / "x.npz")
    for words in ("raters must be 3 distinct", "patients must be (24,)", "spacing must be (24, 2)"):
        assert words in done.output


def test_data_sets_with_odd_contents(tmp_path, arrays):
    arrays["images"][1] = 7
    arrays["masks"][:, 1] = 0
    arrays["masks"][3, 0] = 1
    annotated = np.ones((24, 3), bool)
    annotated[:, 2] = False
    spacing = np.full((24, 2), 0.7)
    spacing[4], spacing[5] = 1.4, -1
    ids = [*map(str, range(23)), "0"]
    split = [*["train"] * 20, *["val"] * 3, "holdout"]
    np.savez(
        tmp_path / "x.npz", **arrays, annotated=annotated, spacing=spacing, case_ids=ids,
        split=split, patient_ids=np.arange(24),
    )  # fmt: skip
    done = run("data", "verify", tmp_path / "x.npz")
    assert done.exit_code == 1
    for words in (
        "1 case ids more than once: 0",
        "unknown splits holdout",
        "pixel spacing [-1.0, -1.0] mm",
        "pixel spacing varies from 0.7 to 1.4 mm",
        "all pixels are equal (1)",
        "every mask of rater rater2 is empty",
        "rater rater3 has no mask at all",
        "24 of 48 masks are empty",
        "a mask covers the whole image (3)",
    ):
        assert words in done.output
    arrays["images"][7] = arrays["images"][6]
    np.savez(tmp_path / "y.npz", **arrays, patient_ids=np.arange(24) // 2)
    assert "case 7 has the image of case 6" in run("data", "verify", tmp_path / "y.npz").output


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1])
def test_spacing_that_is_none_is_named_before_sizes_are_made_of_it(bad, tmp_path, arrays):
    spacing = np.full((24, 2), 0.7)
    spacing[5, 1] = bad
    np.savez(tmp_path / "x.npz", **arrays, spacing=spacing, patient_ids=np.arange(24))
    done = run("data", "verify", tmp_path / "x.npz", "--spacing", 1, "--fit", "pad")
    assert done.exit_code == 1
    assert f"pixel spacing [0.7, {float(bad)}] mm -> give a positive spacing" in done.output
    assert "Traceback" not in done.output


def test_folders_with_mistakes(tmp_path):
    image, masks = files.cases(1)["case0"]
    root = tmp_path / "one"
    files.save_nifti(root / "train" / "a" / "image.nii", image)
    files.save_nifti(root / "train" / "a" / "mask-ann.nii", masks["ann"])
    files.save_nifti(root / "b" / "image.nii", image)
    files.save_nifti(root / "b" / "image-2.nii", image)
    done = run("data", "verify", root)
    assert "more than one image: image-2.nii, image.nii" in done.output
    files.save_nifti(root / "c" / "image.nii", image + 1)
    assert "some cases lie in split folders" in run("data", "verify", root).output
    colour = tmp_path / "two"
    files.write_png(colour, {"a": (image, {"ann": masks["ann"]})})
    from PIL import Image

    mask = Image.fromarray(np.stack([masks["ann"] * 255] * 3, axis=-1))
    mask.save(colour / "a" / "mask-ann.png")
    done = run("data", "verify", colour)
    assert "a mask with 3 channels, all equal -> save the mask as 8-bit grey" in done.output


@pytest.mark.parametrize("command", ["verify", "audit", "prepare"])
def test_a_source_that_is_none_is_a_wrong_use(command, tmp_path):
    out = () if command == "verify" else ("--out", tmp_path / "out")
    for source, words in ((tmp_path / "none", "does not exist"), (tmp_path / "x.npz", "existing")):
        done = run("data", command, source, *out)
        assert done.exit_code == 2
        assert words in done.output
        assert "verify again" not in done.output
    root = files.write_png(tmp_path / "png", files.cases(1))
    assert run("data", command, root, *out, "--fit", "crop").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_simulated_pixels_are_told_by_every_command(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PROSEG_CACHE", str(tmp_path / "cache"))
    for arguments in (("verify", "lidc"), ("prepare", "lidc", "--out", tmp_path / "three.h5")):
        done = run("data", *arguments, "--images", "phantom", "--limit", 3)
        assert done.exit_code == 0, done.output
        assert "NOTE: the PIXELS ARE SIMULATED" in done.output
    assert "SIMULATED" in run("data", "verify", tmp_path / "three.h5").output

"""Every source becomes the same cases; what is wrong is named, all of it at once."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import source_files as files
from PIL import Image
from tiny_data import tiny_arrays

from keras_proseg import Dataset, train
from keras_proseg.config import DataConfig, TrainConfig
from keras_proseg.data.findings import DataError
from keras_proseg.data.places import Place, Volume
from keras_proseg.data.records import natural, split_of
from keras_proseg.data.sources import load_dataset, read_dataset, verify_source
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.scoring import cases_of

WRITERS = {
    "png": files.write_png,
    "nifti": files.write_nifti,
    "manifest": files.write_manifest,
    "qubiq": files.write_qubiq,
    "hdf5": files.write_hdf5,
}


@pytest.fixture(scope="module")
def content():
    return files.cases()


def written(kind, content, folder):
    if kind == "pickle":
        return files.write_pickle(folder / "data_lidc.pickle", content)
    return WRITERS[kind](folder / kind, content)


@pytest.mark.parametrize("kind", [*WRITERS, "pickle"])
def test_every_source_gives_the_same_cases(kind, content, tmp_path):
    config = DataConfig(rater_order="given")
    dataset = read_dataset(str(written(kind, content, tmp_path)), config)
    assert len(dataset) == 6
    expected = list(content.values())
    order = [int("".join(filter(str.isdigit, c.split("/")[-1].split("_slice")[0]))) for c in
             dataset.case_ids.tolist()]  # fmt: skip
    for row, number in enumerate(order):
        image, masks = expected[number]
        present = np.flatnonzero(dataset.annotated[row])
        assert len(present) == len(masks)
        for slot, mask in zip(present, masks.values(), strict=True):
            np.testing.assert_array_equal(dataset.masks[row, slot, ..., 0], mask)
        scale = 255 if kind == "pickle" else 1
        wanted = np.clip(image, 0, 255).astype(np.uint8) if kind == "png" else image
        for channel in range(dataset.images.shape[-1]):
            found = dataset.images[row, ..., channel] * scale
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert not dataset.masks[~dataset.annotated].any()


def test_what_each_source_knows(content, tmp_path):
    png = read_dataset(str(written("png", content, tmp_path)))
    assert (png.raters, png.group_by, png.spacing) == (files.RATERS, "case_ids", None)
    assert not png.annotated[1, 1]
    assert png.annotated.sum() == 17
    manifest = read_dataset(str(written("manifest", content, tmp_path)))
    assert manifest.group_by == "patient_ids"
    assert list(manifest.patients) == ["p0", "p0", "p1", "p1", "p2", "p2"]
    np.testing.assert_allclose(manifest.spacing, [[0.6, 0.7]] * 6)
    qubiq = read_dataset(str(written("qubiq", content, tmp_path)))
    assert qubiq.raters == ("01", "02", "03")
    assert set(qubiq.split) == {"train", "val"}
    hdf5 = read_dataset(str(written("hdf5", content, tmp_path)))
    assert hdf5.raters == ("a1", "a2", "a3")
    assert sorted(hdf5.patients) == [f"Sample_{k}" for k in range(6)]
    assert (hdf5.images.shape[-1], set(hdf5.split)) == (3, {"train", "val", "test"})
    pickled = read_dataset(str(written("pickle", content, tmp_path)))
    assert pickled.raters == ("rank1", "rank2", "rank3")  # slots are not persons
    assert list(pickled.patients) == ["1.2.0", "1.2.0", "1.2.1", "1.2.1", "1.2.2", "1.2.2"]


def test_slices_of_a_volume_are_cases_of_one_patient(content, tmp_path):
    path = files.write_manifest(tmp_path, dict(list(content.items())[:3]), volume=4)
    dataset = read_dataset(str(path))
    assert dataset.images.shape == (12, 32, 32, 1)
    assert list(dataset.case_ids[:5]) == [*[f"case0/z00{k}" for k in range(4)], "case1/z000"]
    assert set(dataset.patients[:4]) == {"p0"}
    image, masks = content["case0"]
    for k in range(4):
        np.testing.assert_array_equal(dataset.images[k, ..., 0], np.roll(image, k, axis=0))
        np.testing.assert_array_equal(dataset.masks[k, 0, ..., 0], np.roll(masks["ann"], k, axis=0))
        place = dataset.places[k]
        assert (place.index, place.volume.shape) == (k, (4, 32, 32))
        np.testing.assert_allclose(place.volume.affine, files.AFFINE)


def test_slices_nobody_drew_on_can_be_left_out(tmp_path):
    image = np.random.default_rng(0).normal(size=(8, 8, 5)).astype("float32")
    mask = np.zeros((8, 8, 5), np.uint8)
    mask[2:5, 2:5, 1:3] = 1
    files.save_nifti(tmp_path / "c" / "image.nii", image)
    files.save_nifti(tmp_path / "c" / "mask-ann.nii", mask)
    findings, dataset = verify_source(str(tmp_path))
    assert len(dataset) == 5
    assert any("3 of 5 slices have no outline" in str(f) for f in findings.items)
    drawn = read_dataset(str(tmp_path), DataConfig(slices="drawn"))
    assert list(drawn.case_ids) == ["c/z001", "c/z002"]
    mask[:] = 0
    files.save_nifti(tmp_path / "c" / "mask-ann.nii", mask)
    with pytest.raises(DataError, match="no slice with an outline"):
        read_dataset(str(tmp_path), DataConfig(slices="drawn"))


def test_structures_and_channels(content, tmp_path):
    files.write_qubiq(tmp_path / "q", content, structures=2)
    assert read_dataset(str(tmp_path / "q")).num_classes == 2
    (tmp_path / "q" / "Training" / "case00" / "task02_seg02.nii.gz").unlink()
    findings, dataset = verify_source(str(tmp_path / "q"))
    assert any("rater 02 lacks task02" in f.what for f in findings.items)
    assert dataset.annotated[0].tolist() == [True, False, True]
    image, masks = content["case0"]
    for name in ("a", "b"):
        files.save_nifti(tmp_path / "c" / "one" / f"image-{name}.nii", image)
    files.save_nifti(tmp_path / "c" / "one" / "mask-ann.nii", masks["ann"])
    assert read_dataset(str(tmp_path / "c")).images.shape == (1, 32, 32, 2)
    stacked = np.stack([image, image + 1, image + 2], axis=2)  # as QUBIQ stores brain-tumor
    files.save_nifti(tmp_path / "d" / "one" / "image.nii", stacked)
    files.save_nifti(tmp_path / "d" / "one" / "mask-ann.nii", masks["ann"])
    dataset = read_dataset(str(tmp_path / "d"))
    np.testing.assert_array_equal(dataset.images[0], stacked)
    volume = np.stack([stacked, stacked * 2], axis=2)  # (H, W, Z, C)
    files.save_nifti(tmp_path / "e" / "one" / "image.nii", volume)
    files.save_nifti(tmp_path / "e" / "one" / "mask-ann.nii", np.stack([masks["ann"]] * 2, axis=2))
    dataset = read_dataset(str(tmp_path / "e"))
    np.testing.assert_array_equal(dataset.images, np.moveaxis(volume, 2, 0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hdf5_volumes(axis, content, tmp_path):
    import h5py

    image, masks = content["case0"]
    (tmp_path / "validation").mkdir()
    with h5py.File(tmp_path / "validation" / "Sample_3.h5", "w") as file:
        for name in ("t1", "t1c", "t2"):
            file[name] = np.stack([image] * 5, axis=axis)
        file["label_a1"] = np.stack([masks["ann"]] * 5, axis=axis)
    dataset = read_dataset(str(tmp_path))
    assert dataset.images.shape == (5, 32, 32, 3)
    assert set(dataset.patients) == {"Sample_3"}
    np.testing.assert_array_equal(dataset.masks[4, 0, ..., 0], masks["ann"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hdf5_volumes_whose_slices_are_no_squares(axis, content, tmp_path):
    import h5py

    image, masks = content["case0"]
    with h5py.File(tmp_path / "Sample_3.h5", "w") as file:
        for name in ("t1", "t1c", "t2"):
            file[name] = np.stack([image[:, 4:30]] * 5, axis=axis)
        file["label_a1"] = np.stack([masks["ann"][:, 4:30]] * 5, axis=axis)
    findings, dataset = verify_source(str(tmp_path))
    assert dataset.images.shape == (5, 32, 26, 3)
    np.testing.assert_array_equal(dataset.masks[4, 0, ..., 0], masks["ann"][:, 4:30])
    assert any("cut along the shortest: here, 5 slices of 32x26" in f.what for f in findings.items)


def test_hdf5_volumes_of_which_the_shortest_side_differs_are_refused(content, tmp_path):
    import h5py

    image, masks = content["case0"]
    for axis in (0, 1):
        with h5py.File(tmp_path / f"Sample_{axis}.h5", "w") as file:
            for name in ("t1", "t1c", "t2"):
                file[name] = np.stack([image[:, 4:30]] * 5, axis=axis)
            file["label_a1"] = np.stack([masks["ann"][:, 4:30]] * 5, axis=axis)
    with pytest.raises(ProSegError, match="2 volumes of three .* the shortest not the same in all"):
        read_dataset(str(tmp_path))


def test_a_folder_of_pickles(content, tmp_path):
    items = list(content.items())
    files.write_pickle(tmp_path / "one.pickle", dict(items[:2]))
    files.write_pickle(tmp_path / "two.PKL", dict(items[4:]))
    assert len(read_dataset(str(tmp_path))) == 4


def test_images_of_different_sizes(content, tmp_path):
    root = files.write_png(tmp_path, content)
    tall = np.zeros((40, 20), np.uint8)
    tall[10:30, 4:14] = 200
    Image.fromarray(tall).save(root / "case5" / "image.png")
    for rater in files.RATERS:
        mask = Image.fromarray((tall > 0).astype(np.uint8) * 255)
        mask.save(root / "case5" / f"mask-{rater}.png")
    with pytest.raises(DataError, match=r"images of 2 sizes: 32x32 \(5 cases\), 40x20 \(1 cases\)"):
        read_dataset(str(root))
    padded = read_dataset(str(root), DataConfig(fit="pad"))
    assert padded.images.shape == (6, 40, 32, 1)
    np.testing.assert_array_equal(padded.images[5, :, 6:26, 0], tall)
    assert padded.masks[5, 0].sum() == 200
    cropped = read_dataset(str(root), DataConfig(fit="crop", size=16))
    np.testing.assert_array_equal(cropped.images[5, :, :, 0], tall[12:28, 2:18])
    findings, _ = verify_source(str(root), DataConfig(fit="crop", size=8))
    assert any("outlines are cut by --fit crop" in f.what for f in findings.items)
    assert not any("vanish at the new scale" in f.what for f in findings.items)
    resampled = read_dataset(str(root), DataConfig(fit="resample", size=20))
    assert resampled.images.shape == (6, 20, 20, 1)
    assert resampled.masks[5, 0].sum() == 50  # 20 x 10 pixels at half the scale
    with pytest.raises(UsageError, match="must come with `size`"):
        read_dataset(str(root), DataConfig(fit="crop"))


def test_one_spacing_for_all(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    dataset = read_dataset(str(path), DataConfig(spacing=1.2, fit="pad"))
    assert dataset.images.shape[1:3] == (16, 19)  # 32 x 0.6 / 1.2, 32 x 0.7 / 1.2
    np.testing.assert_allclose(dataset.spacing, [[1.2, 32 * 0.7 / 19]] * 6)
    findings, _ = verify_source(str(path), DataConfig(spacing=20.0, fit="pad"))
    assert any("outlines vanish at the new scale" in f.what for f in findings.items)
    with pytest.raises(DataError, match="no pixel spacing is known"):
        read_dataset(str(written("png", content, tmp_path)), DataConfig(spacing=1.0))


def test_a_row_finds_its_way_back(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    for config in (DataConfig(fit="crop", size=24), DataConfig(fit="crop", size=40)):
        dataset = read_dataset(str(path), config)
        whole = dataset.places[0].restore(dataset.masks[0, 0, ..., 0].astype(float))
        np.testing.assert_array_equal(whole, content["case0"][1]["ann"])
    dataset = read_dataset(str(path), DataConfig(spacing=0.35, fit="pad"))
    whole = dataset.places[0].restore(dataset.masks[0, 2, ..., 0].astype(float)) > 0.5
    differing = (whole != content["case0"][1]["cy"]).sum()
    assert differing <= 0.05 * whole.sum()


def test_patients_in_two_splits_and_copied_images(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    lines = path.read_text().splitlines()
    sides = ["split"] + [("train", "val")[k % 2] for k in range(5)] + ["train"] * 12
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, sides, strict=True)))
    with pytest.raises(DataError, match="more than one split"):
        read_dataset(str(path))
    sides = ["split"] + ["val"] * 3 + ["train"] * 14
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, sides, strict=True)))
    with pytest.raises(DataError, match=r"1 patients in two splits .*p0.* -> keep all cases"):
        read_dataset(str(path))
    png = written("png", content, tmp_path)
    (png / "case4" / "image.png").write_bytes((png / "case0" / "image.png").read_bytes())
    with pytest.raises(DataError, match=r"case4 has the image of case case0 .* not its own"):
        load_dataset(str(png), TrainConfig())


def test_unknown_sources(tmp_path):
    for name in ("none", "x.mat"):
        with pytest.raises(UsageError, match=r"`lidc`, FILE.npz.*does not exist"):
            read_dataset(str(tmp_path / name))
    (tmp_path / "x.mat").touch()
    with pytest.raises(UsageError, match=r"MANIFEST.csv"):
        read_dataset(str(tmp_path / "x.mat"))
    with pytest.raises(DataError, match=r"no case with an image and a mask -> expected CASE/image"):
        read_dataset(str(tmp_path))


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_a_run_takes_any_source(tiny_run, content, tmp_path):
    from keras_proseg.evaluation import evaluate_run

    path = files.write_manifest(tmp_path, content, volume=2)
    summary = evaluate_run(tiny_run.path, str(path), num_samples=2)
    assert (summary["num_cases"], summary["num_patients"]) == (6, 3)  # a volume is one case
    assert "dice_rater/bob" in summary


def test_a_volume_is_scored_with_its_slices_stacked(tiny_model, content, tmp_path):
    from keras_proseg.evaluation import evaluate
    from keras_proseg.metrics import structure_metrics

    path = files.write_manifest(tmp_path, content, volume=3)
    dataset = read_dataset(str(path)).take(np.arange(6))
    _, rows = evaluate(tiny_model, dataset, 4, seed=5, progress=False)
    assert [row["case_id"] for row in rows] == ["case0", "case1"]
    samples = tiny_model.sample(dataset.images[3:], None, 4, 5)
    masks = np.moveaxis(dataset.masks[3:], 1, 0)[dataset.annotated[3]]
    expected, _ = structure_metrics(masks, np.moveaxis(samples, 1, 0))
    for name in ("ged", "dice_match", "dice_soft"):
        assert rows[1][name] == pytest.approx(expected[name])
    mixed = dataset.take(np.array([3, 5, 0, 2, 4, 1]))
    _, mixed = evaluate(tiny_model, mixed, 4, seed=5, progress=False)
    for name in ("ged", "fragments", "brier"):  # slices are where they lie, whatever their order
        assert mixed[0][name] == pytest.approx(rows[1][name])
    _, rows = evaluate(tiny_model, dataset, 4, progress=False, volumes=False)
    assert len(rows) == 6


def test_training_refuses_what_verify_refuses(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    with pytest.raises(DataError, match="images of 2 sizes"):
        _train_with_an_odd_size(path, tmp_path)
    assert not (tmp_path / "refused").exists()


def _train_with_an_odd_size(path, tmp_path):
    from keras_proseg.training import train

    image, masks = np.zeros((20, 20), "float32"), np.eye(20, dtype=np.uint8)
    image[3:9] = 7
    files.save_nifti(path.parent / "images" / "case0.nii.gz", image)
    for rater in files.RATERS:
        files.save_nifti(path.parent / rater / "case0.nii.gz", masks)
    train(str(path), tmp_path / "refused", log=lambda line: None)


def test_a_window_in_hu_is_taken_over(arrays):
    from keras_proseg.config import ModelConfig
    from keras_proseg.data.dataset import Dataset
    from keras_proseg.data.split import split_dataset
    from keras_proseg.training import fit_config

    dataset = split_dataset(Dataset.from_arrays(**arrays, patients=range(24)))
    own = fit_config(ModelConfig(), dataset, DataConfig(window_center=-600, window_width=1500))
    assert (own.intensity.mode, own.intensity.center, own.intensity.width) == ("window", -600, 1500)
    assert fit_config(ModelConfig(), dataset, DataConfig()).intensity.mode == "zscore"
    with pytest.raises(UsageError, match="must come together"):
        DataConfig(window_center=-600)


def test_an_npz_whose_header_lies_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    whole = (tmp_path / "x.npz").read_bytes()
    assert whole.count(b"'<f4'") == 1
    (tmp_path / "x.npz").write_bytes(whole.replace(b"'<f4'", b"'<f2'"))  # half of the bytes
    with pytest.raises(ProSegError, match="whole .npz"):
        read_dataset(str(tmp_path / "x.npz"))


def one_case(root, image, mask):
    files.save_nifti(root / "c" / "image.nii", image)
    files.save_nifti(root / "c" / "mask-ann.nii", mask)
    return str(root)


def test_padding_is_the_darkest_of_each_channel(tmp_path):
    image = np.arange(64.0).reshape(8, 8).astype("float32") - 1000
    files.save_nifti(tmp_path / "c" / "image-ct.nii", image)
    files.save_nifti(tmp_path / "c" / "image-pet.nii", image + 1005)
    files.save_nifti(tmp_path / "c" / "mask-ann.nii", np.eye(8, dtype=np.uint8))
    dataset = read_dataset(str(tmp_path), DataConfig(fit="crop", size=10))
    assert dataset.images[0, 0, 0].tolist() == [-1000, 5]
    assert dataset.images[0, 1, 2].tolist() == [-999, 6]


def test_an_outline_beyond_the_crop_is_named(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[:2, :2] = 1
    source = one_case(tmp_path, np.zeros((16, 16), "float32"), mask)
    findings, _ = verify_source(source, DataConfig(fit="crop", size=8))
    assert any("1 outlines vanish by --fit crop" in f.what for f in findings.items)


def test_channels_are_known_by_their_names(tmp_path):
    for case, names in (("a", ("t1", "t2")), ("b", ("t1", "t2")), ("c", ("flair", "t1"))):
        for name in names:
            files.save_nifti(tmp_path / case / f"image-{name}.nii", np.zeros((8, 8), "float32"))
        files.save_nifti(tmp_path / case / "mask-ann.nii", np.eye(8, dtype=np.uint8))
    with pytest.raises(DataError, match=r"c: channels flair, t1 where most cases have"):
        read_dataset(str(tmp_path))


def test_slices_are_of_a_patient_in_either_case_of_the_word(content, tmp_path):
    root = files.write_hdf5(tmp_path, content)
    for number, path in enumerate(sorted(root.rglob("*.h5"))):
        path.rename(root / f"P0{number // 2}_Slice0{number}.h5")
    dataset = read_dataset(str(root))
    assert sorted(set(dataset.patients.tolist())) == ["P00", "P01", "P02"]
    for number, path in enumerate(sorted(root.glob("*.h5"))):
        path.rename(root / f"{number}.h5")
    findings, _ = verify_source(str(root))
    assert any("6 slices of as many patients" in f.what for f in findings.items)


def test_what_is_guessed_of_the_names_of_slices_is_told(content, tmp_path):
    root = files.write_hdf5(tmp_path, content)

    def verified(pattern):
        for number, path in enumerate(sorted(root.rglob("*.h5"))):
            path.rename(root / f"{pattern.format(number, number // 2)}.h5")
        findings, dataset = verify_source(str(root))
        told = [f.what for f in findings.items if "file names without" in f.what]
        return sorted(set(dataset.patients.tolist())), told

    assert verified("slice_{0}_patient_{1}") == (["patient_0", "patient_1", "patient_2"], [])
    assert verified("p{1}-slice_{0}_of_6") == (["p0", "p1", "p2"], [])
    guessed = "patients are file names without their last number: Set20_000 is of Set20"
    assert verified("Set20_00{0}") == (["Set20"], [guessed])


def notes_of(path):
    findings, _ = verify_source(str(path))
    assert not findings.fatal
    return " / ".join(finding.what for finding in findings.items)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((6, 16, 16), "here, 16 slices of 6x16"),
        ((16, 6, 16), "here, 16 slices of 16x6"),
        ((6, 12, 16), "here, 16 slices of 6x12"),
        ((16, 16, 6), None),
        ((6, 6, 16), None),
        ((12, 12, 12), None),
        ((16, 12, 6), None),
        ((6, 12), None),
    ],
)
def test_volumes_that_are_cut_across_their_slices_are_noted(shape, told, tmp_path):
    rng = np.random.default_rng(0)
    files.save_nifti(tmp_path / "c" / "image.nii", rng.normal(size=shape).astype("float32"))
    files.save_nifti(tmp_path / "c" / "mask-ann.nii", (rng.random(shape) < 0.5).astype(np.uint8))
    notes = notes_of(tmp_path)
    assert (told in notes) if told else ("third axis" not in notes)


def test_volumes_that_lie_otherwise_than_others_are_noted(content, tmp_path):
    root = tmp_path / "a"
    cases = dict(list(content.items())[:3])
    path = files.write_manifest(root, cases, volume=4)
    assert "ways" not in notes_of(path)
    turned = files.AFFINE[:, [1, 0, 2, 3]] @ np.diag([1, -1, 1, 1])
    for file in root.rglob("case1.nii.gz"):
        files.save_nifti(file, np.asarray(nibabel.load(file).dataobj), turned)
    assert "volumes lie in 2 ways (nibabel's axis codes): 2 ALS, 1 LPS" in notes_of(path)


def test_pictures_beside_nifti_are_noted(content, tmp_path):
    half = dict(list(content.items())[:3])
    files.write_png(tmp_path, half)
    assert "runs along x" not in notes_of(tmp_path)
    rest = {name: case for name, case in content.items() if name not in half}
    files.write_nifti(tmp_path, rest)
    notes = notes_of(tmp_path)
    assert "3 cases are NIfTI, 3 are not: the first axis of a NIfTI runs along x" in notes
    kinds = sorted({str(image.dtype) for image, _ in rest.values()} | {"uint8"})
    assert f"images of {' and '.join(kinds)}: their scales differ" in notes


def test_one_file_for_two_masks_is_noted(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    assert "masks" not in notes_of(path).replace("masks are empty", "")
    path.write_text(path.read_text().replace("bob/case3", "ann/case3"))
    assert "case case3 has it as 2 masks" in notes_of(path)


def test_one_patient_under_two_names_is_noted(content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    for names in (("p0", "P 0"), ("1", "1.0"), ("p1", "p01"), ("7.0", "07")):
        other = files.write_manifest(tmp_path / "-".join(names), content)
        text = other.read_text()
        for before, name in zip(("p1", "p0"), names[::-1], strict=True):
            text = text.replace(f",{before},", f",{name},")
        other.write_text(text)
        told = f"patients {' and '.join(sorted(names))} differ in capitals, blanks or zeros only"
        assert told in notes_of(other)
    text = path.read_text().replace(",p0,", ",10,").replace(",p1,", ",1,").replace(",p2,", ",1.5,")
    path.write_text(text)
    assert "differ in" not in notes_of(path)


def test_values_next_to_1_are_shown_as_they_are(tmp_path):
    image, masks = files.cases(1)["case0"]
    files.save_nifti(tmp_path / "c" / "image.nii", image)
    files.save_nifti(tmp_path / "c" / "mask-ann.nii", masks["ann"] * np.float32(1.0000001))
    with pytest.raises(DataError, match=r"values \[0, 1.00000012\] where 0/1 must be"):
        read_dataset(str(tmp_path))


def test_images_of_other_depths_are_noted(content, tmp_path):
    root = files.write_png(tmp_path, content)
    Image.fromarray(np.full((32, 32), 40000, np.uint16)).save(root / "case3" / "image.png")
    findings, _ = verify_source(str(root))
    assert any("images of uint16 and uint8" in f.what for f in findings.items)


def test_names_that_count_alike_are_in_one_order():
    assert sorted(["r10", "r2", "a", "r02"], key=natural) == ["a", "r02", "r2", "r10"]
    assert natural("01") != natural("1")
    found = [split_of(name) for name in ("Valid", "validation", "training", "testing", "case1")]
    assert found == ["val", "val", "train", "test", None]


@pytest.mark.parametrize("name", ["./x", "x/", "../x", "a//b"])
def test_case_ids_that_are_no_plain_paths_are_refused(name, content, tmp_path):
    path = files.write_manifest(tmp_path, content)
    path.write_text(path.read_text().replace("case3,", f"{name},", 4))
    with pytest.raises(DataError, match="is no plain path"):
        read_dataset(str(path))


@pytest.mark.parametrize(
    "setting", [{"limit": 3}, {"min_raters": 1}, {"unit": "volumes"}, {"images": "ct"}]
)
def test_settings_of_lidc_are_of_lidc_only(setting, tiny_npz, arrays):
    (name,) = setting
    with pytest.raises(UsageError, match=f"`{name}` must be left out: it is a setting of lidc"):
        read_dataset(str(tiny_npz), DataConfig(**setting))
    with pytest.raises(UsageError, match=f"`{name}` must be left out"):
        train(Dataset.from_arrays(**arrays), **setting)


def test_verify_sees_raters_and_slices_as_they_are_asked_for(tiny_npz, tmp_path):
    config = DataConfig(rater_order="area", slices="drawn")
    _, dataset = verify_source(str(tiny_npz), config)
    assert dataset.raters == ("rank1", "rank2", "rank3")
    np.savez(
        tmp_path / "x.npz", images=np.zeros((3, 8, 8, 1)), masks=np.zeros((3, 1, 8, 8), "uint8")
    )
    findings, _ = verify_source(str(tmp_path / "x.npz"), config)
    assert [f.remedy for f in findings.fatal] == ["choose --slices all, or look at the masks"]


def test_slices_of_a_ct_are_cases_of_their_own():
    volume, places = Volume("x", "dicom", (4, 32, 32), "x"), np.empty(4, object)
    places[:] = [Place(volume, index, (32, 32)) for index in range(4)]
    dataset = Dataset.from_arrays(**tiny_arrays(4), places=places)
    assert cases_of(dataset, True) == [[0, 1, 2, 3]]
    assert cases_of(replace(dataset, image_kind="ct"), True) == [[0], [1], [2], [3]]


def test_slices_of_ranked_raters_are_cases_of_their_own(content, tmp_path):
    """Ranks are of a slice: those of a volume would be masks that nobody drew."""
    path = str(files.write_manifest(tmp_path, content, volume=3))
    assert len(cases_of(read_dataset(path), True)) == 6
    ranked = read_dataset(path, DataConfig(rater_order="area"))
    assert cases_of(ranked, True) == [[row] for row in range(18)]


def test_columns_of_a_manifest_are_read_whatever_their_case_and_each_once(tmp_path):
    path = files.write_manifest(tmp_path, files.cases())
    header, rest = path.read_text().split("\n", 1)
    path.write_text(f"{header.title()}\n{rest}")
    assert read_dataset(str(path)).group_by == "patient_ids"
    path.write_text(f"{header},mask\n{rest}")
    with pytest.raises(DataError, match="more than one column mask"):
        read_dataset(str(path))
    lines = [f"{line},x" for line in rest.splitlines()]
    path.write_text("\n".join([f"{header},Site", *lines]))
    notes = verify_source(str(path))[0].items
    assert any("a column site that is not read" in item.what for item in notes)


def test_a_manifest_may_have_a_column_without_a_name(tmp_path):
    path = files.write_manifest(tmp_path, files.cases())
    expected = read_dataset(str(path))
    lines = path.read_text().splitlines()
    for numbered in (
        [f"{number or ''},{line}" for number, line in enumerate(lines)],  # as pandas writes them
        [f"{line}," for line in lines],
    ):
        path.write_text("\n".join(numbered))
        found = read_dataset(str(path))
        assert found.fingerprint() == expected.fingerprint()
    path.write_text("\n".join([lines[0], f"{lines[1]},x"]))
    with pytest.raises(DataError, match="more or fewer fields than columns"):
        read_dataset(str(path))


def test_small_masks_survive_a_coarser_scale(tmp_path):
    image, (mask, *_) = np.zeros((32, 32), np.float32), np.zeros((3, 32, 32), np.uint8)
    mask[8:11, 8:11] = 1  # a pixel of the new scale, in none of whose averages it is half
    content = {f"case{k}": (image, {"ann": mask, "bob": mask}) for k in range(3)}
    path = files.write_manifest(tmp_path, content)
    dataset = read_dataset(str(path), DataConfig(spacing=2.0, fit="pad"))
    assert dataset.images.shape[1] == 10
    assert dataset.masks.any(axis=(2, 3, 4)).all()

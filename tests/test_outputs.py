"""What is written is what was predicted, in place: NIfTI, PNG, npz, DICOM-SEG."""

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import highdicom
import nibabel
import numpy as np
import pytest
import source_files as files
from dicom_files import write_series, write_slice
from PIL import Image
from test_cli import run
from tiny_model import tiny

from keras_proseg import Dataset, load
from keras_proseg.config import DataConfig
from keras_proseg.data.formats import dicom_slice
from keras_proseg.data.formats.dicom_slice import read_slice
from keras_proseg.data.places import Place, Volume, resize
from keras_proseg.data.sources import read_dataset
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.outputs import dicom_seg
from keras_proseg.outputs.masks import save_masks
from keras_proseg.outputs.sample_file import sample_file
from keras_proseg.outputs.writers import plain_names, write_png
from keras_proseg.run_data import cases_of_run
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, write_json


@pytest.fixture(scope="module")
def content():
    return files.cases()


def predicted(model, dataset):
    """(N, R, H, W, K) bool."""
    return model.rater_moments(np.asarray(dataset.images))[0] > 0.5


def test_nifti_masks_come_back_as_a_source(tiny_model, content, tmp_path):
    path = files.write_manifest(tmp_path / "in", content, volume=3)
    dataset = read_dataset(str(path))
    written = save_masks(tiny_model, dataset, tmp_path / "out")
    assert len(written) == 6 * 3
    expected = predicted(tiny_model, dataset)
    for rater in tiny_model.raters:
        saved = nibabel.load(tmp_path / "out" / "case2" / f"mask-{rater}.nii.gz")
        np.testing.assert_allclose(saved.affine, files.AFFINE, atol=1e-6)
        np.testing.assert_allclose(saved.header.get_zooms(), (0.6, 0.7, 2.5), rtol=1e-6)
        found = np.moveaxis(np.asarray(saved.dataobj), 2, 0)
        np.testing.assert_array_equal(
            found, expected[6:9, tiny_model.raters.index(rater), ..., 0]
        )  # fmt: skip
        image = tmp_path / "in" / "images" / "case2.nii.gz"
        files.save_nifti(
            tmp_path / "out" / "case2" / "image.nii.gz", np.asarray(nibabel.load(image).dataobj)
        )
    for case in (0, 1, 3, 4, 5):
        shutil.rmtree(tmp_path / "out" / f"case{case}")
    again = read_dataset(str(tmp_path / "out"))
    np.testing.assert_array_equal(again.masks, expected[6:9])


def test_masks_of_several_structures_are_told_apart_by_name(content, tmp_path):
    files.write_qubiq(tmp_path / "in", content, structures=2)
    dataset = read_dataset(str(tmp_path / "in")).take([0])
    model = tiny(num_classes=2, views=1)
    written = save_masks(model, dataset, tmp_path / "out")
    structures = ("task01", "task02")
    names = {f"mask-{rater}-{s}.nii.gz" for rater in model.raters for s in structures}
    assert {path.name for path in written} == names
    expected = predicted(model, dataset)[0]
    assert (expected[..., 0] != expected[..., 1]).any()
    for r, rater in enumerate(model.raters):
        for k, structure in enumerate(structures):
            saved = nibabel.load(written[0].with_name(f"mask-{rater}-{structure}.nii.gz"))
            np.testing.assert_array_equal(np.asarray(saved.dataobj), expected[r, ..., k])


def test_masks_of_cropped_and_resampled_cases_lie_in_place(tiny_model, content, tmp_path):
    path = files.write_manifest(tmp_path / "in", content)
    cropped = read_dataset(str(path), DataConfig(fit="crop", size=24))
    save_masks(tiny_model, cropped, tmp_path / "out")
    whole = np.asarray(nibabel.load(tmp_path / "out" / "case3" / "mask-cy.nii.gz").dataobj)
    assert whole.shape == (32, 32)
    np.testing.assert_array_equal(whole[4:28, 4:28], predicted(tiny_model, cropped)[3, 2, ..., 0])
    whole[4:28, 4:28] = 0
    assert not whole.any()
    padded = read_dataset(str(path), DataConfig(fit="crop", size=40))
    save_masks(tiny_model, padded, tmp_path / "padded")
    whole = np.asarray(nibabel.load(tmp_path / "padded" / "case3" / "mask-cy.nii.gz").dataobj)
    expected = predicted(tiny_model, padded)[3, 2, 4:36, 4:36, 0]
    np.testing.assert_array_equal(whole, expected)


def test_resampling_there_and_back_moves_nothing():
    """A disc drawn on a finer grid comes back at its centre and with its area."""
    rows, columns = np.mgrid[:60, :60]
    fine = (np.hypot(rows - 40, columns - 24) < 10).astype(float)
    place = Place(Volume("x", ".nii", (1, 30, 30), "x"), 0, (60, 60))
    back = place.restore(fine) > 0.5
    np.testing.assert_allclose(np.argwhere(back).mean(axis=0), [19.75, 11.75], atol=0.2)
    assert back.sum() == pytest.approx(np.pi * 25, rel=0.1)


def test_images_are_averaged_where_they_shrink():
    stripes = np.zeros((16, 16))
    stripes[:, ::4] = 1  # one column of four: its share is what is left of it
    np.testing.assert_allclose(resize(stripes, (16, 4))[:, 1:-1], 0.25, atol=0.07)
    assert not resize(stripes, (16, 4), smooth=False).any()
    ramp = np.arange(8.0)[:, None] * np.ones((1, 3))
    # Of pixels 1 to 6: a triangle of weights 1/4, 3/4, 3/4, 1/4 about the edge between two.
    halved = (ramp[1:5] + 3 * ramp[2:6] + 3 * ramp[3:7] + ramp[4:8])[::2] / 8
    np.testing.assert_allclose(resize(ramp, (4, 3))[1:-1], halved, rtol=1e-6)


def test_png_and_npz_masks(tiny_model, content, tmp_path):
    root = files.write_png(tmp_path / "in", content)
    dataset = read_dataset(str(root))
    save_masks(tiny_model, dataset, tmp_path / "out")
    expected = predicted(tiny_model, dataset)
    with Image.open(tmp_path / "out" / "case4" / "mask-bob.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected[4, 1, ..., 0] * 255)
    path = files.write_pickle(tmp_path / "data.pickle", content)
    dataset = read_dataset(str(path), DataConfig(rater_order="given"))
    (written,) = save_masks(tiny_model, dataset, tmp_path / "npz")
    stored = np.load(written)
    np.testing.assert_array_equal(stored["masks"], predicted(tiny_model, dataset))
    assert stored["case_ids"].tolist() == list(content)
    assert stored["rater_ids"].tolist() == list(tiny_model.raters)
    assert not stored["offsets"].any()
    assert (stored["shapes"] == 32).all()


def test_npz_masks_of_cropped_cases_say_where_they_lie(tiny_model, content, tmp_path):
    path = files.write_pickle(tmp_path / "data.pickle", content)
    config = DataConfig(rater_order="given", fit="crop", size=24)
    cropped = read_dataset(str(path), config)
    (written,) = save_masks(tiny_model, cropped, tmp_path / "npz")
    stored = np.load(written)
    (row, column), (height, width) = stored["offsets"][3], stored["sizes"][3]
    assert (height, width) == tuple(stored["shapes"][3]) == (32, 32)
    image = read_dataset(str(path)).images[3, row : row + 24, column : column + 24]
    np.testing.assert_array_equal(image, cropped.images[3])


def test_raters_whose_names_are_alike_in_a_file_keep_one_each():
    assert plain_names(["a b", "a/b", "A_b", "ann"]) == ["a_b", "a_b-2", "A_b-3", "ann"]
    assert plain_names(["a b", "a_b-2", "a_b"]) == ["a_b", "a_b-2", "a_b-3"]


def test_a_case_may_not_leave_the_folder(tiny_model, tmp_path):
    content = {"a": next(iter(files.cases(1).values()))}
    dataset = read_dataset(str(files.write_manifest(tmp_path / "in", content)))
    (place,) = dataset.places
    plain, short = "a plain name. Received: ", "a name of 255 bytes at most"
    for name, words in (("../../a", plain), ("a\0b", plain), ("/a", plain), ("x" * 300, short)):
        dataset.places[0] = replace(place, volume=replace(place.volume, case_id=name))
        with pytest.raises(ProSegError, match=words):
            save_masks(tiny_model, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        save_masks(tiny_model, dataset, tmp_path / "full")


@pytest.fixture
def series(tmp_path):
    """A series of 5 slices whose discs wander, in HU."""
    rows, columns = np.mgrid[:32, :32]
    discs = np.stack([np.hypot(rows - 10 - 2 * z, columns - 14) < 7 for z in range(5)])
    return write_series(tmp_path / "series", (discs * 100).astype(np.int16)), discs * 100


def segments(path, source, where):
    """What a viewer would lay over the slices: (Z, H, W, L)."""
    seg = highdicom.seg.segread(path)
    uids = [dataset.SOPInstanceUID for dataset in source]
    found = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=where)
    return seg, found


def by_position(folder):
    import pydicom

    source = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return sorted(source, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


def test_samples_of_a_series_are_a_segmentation_in_place(tiny_run, tiny_model, series, tmp_path):
    folder, units = series
    sample_file(tiny_run.path, folder, tmp_path / "out", "1", 3, seed=2)
    expected = tiny_model.sample(units[..., None], "bob", 3, 2) > 0.5
    assert expected.any(axis=(0, 2, 3, 4)).all()
    seg, found = segments(tmp_path / "out" / "masks.dcm", by_position(folder), False)
    np.testing.assert_array_equal(found, np.moveaxis(expected[..., 0], 1, 3))
    described = [seg.get_segment_description(n) for n in seg.segment_numbers]
    assert [d.segment_label for d in described] == [f"rater bob, sample00{k}" for k in (1, 2, 3)]
    assert {d.SegmentAlgorithmType for d in described} == {"AUTOMATIC"}
    (algorithm,) = {d.algorithm_identification.name for d in described}
    assert "ProSeg" in algorithm
    source = by_position(folder)[0]
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    plane = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(s) for s in plane.PixelSpacing] == [0.6, 0.7]
    stored = np.load(tmp_path / "out" / "probabilities.npz")["probabilities"]
    np.testing.assert_array_equal(stored > 0.5, expected)


@pytest.mark.filterwarnings("ignore:.* are far from the training's")
def test_a_single_slice_and_pydicoms_own(tiny_run, tiny_model, series, tmp_path):
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm")
    done = run("sample", tiny_run.path, path, "--out", tmp_path / "ct", "--num-samples", 2)
    assert done.exit_code == 0, done.output
    assert "masks.dcm" in done.output
    empty = write_series(tmp_path / "empty", np.full((2, 32, 32), -1000, np.int16))
    sample_file(tiny_run.path, empty, tmp_path / "out", None, 2)
    assert (tmp_path / "out" / "masks.dcm").is_file()


def test_raters_predicted_on_ct_are_one_segmentation(tiny_model, series, tmp_path):
    """A crop of a series, as lidc hands it over: one segment per rater, at the crop's place."""
    from keras_proseg.data.dataset import Dataset

    folder, units = series
    volume = Volume(str(folder), "dicom", (5, 32, 32), "P1-scan1")
    rows = [1, 2, 3]
    places = np.empty(3, object)
    places[:] = [Place(volume, z, (32, 32), (4, 6)) for z in rows]
    images = units[rows, 4:28, 6:30, None].astype(np.float32)
    masks = np.ones((3, 3, 24, 24), np.uint8)
    dataset = Dataset.from_arrays(images, masks, places=places)
    (written,) = save_masks(tiny_model, dataset, tmp_path / "out")
    assert written == tmp_path / "out" / "P1-scan1" / "masks.dcm"
    source = by_position(folder)
    seg = highdicom.seg.segread(written)
    labels = [seg.get_segment_description(n).segment_label for n in seg.segment_numbers]
    assert labels == list(tiny_model.raters)
    found = seg.get_pixels_by_source_instance([source[z].SOPInstanceUID for z in rows])
    expected = np.zeros_like(found)
    expected[:, 4:28, 6:30] = np.moveaxis(predicted(tiny_model, dataset)[..., 0], 1, 3)
    np.testing.assert_array_equal(found, expected)
    (folder / "000.dcm").unlink()
    with pytest.raises(ProSegError, match=r"must be \(5, 32, 32\)"):
        save_masks(tiny_model, dataset, tmp_path / "again")
    shutil.rmtree(folder)
    with pytest.raises(ProSegError, match="series must be an existing DICOM file or folder"):
        save_masks(tiny_model, dataset, tmp_path / "again")


def test_a_series_without_what_a_segmentation_needs_is_refused_first(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    (run / "best.keras").unlink()  # the model is not loaded yet
    disc = np.zeros((8, 8))
    write_slice(tmp_path / "ct" / "a.dcm", disc, (0, 0, 1), 1, PatientID=None)
    text = r"ct must have whole headers of one series, for a DICOM-SEG. Received: .*PatientID"
    with pytest.raises(ProSegError, match=text):
        sample_file(run, tmp_path / "ct", tmp_path / "out")


@pytest.mark.parametrize("thickness", ["", None])
def test_a_thickness_that_is_not_known_is_that_between_slices(tiny_run, thickness, tmp_path):
    for z in range(3):
        place, pixels = (0, 0, 2.5 * z), np.zeros((8, 8))
        write_slice(tmp_path / "ct" / f"{z}.dcm", pixels, place, z, SliceThickness=thickness)
    sample_file(tiny_run.path, tmp_path / "ct", tmp_path / "out", None, 1)
    seg = highdicom.seg.segread(tmp_path / "out" / "masks.dcm")
    plane = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(plane.SliceThickness) == 2.5
    for z in (1, 2):
        (tmp_path / "ct" / f"{z}.dcm").unlink()
    with pytest.raises(ProSegError, match="whole headers of one series, for a DICOM-SEG. Received"):
        sample_file(tiny_run.path, tmp_path / "ct", tmp_path / "again", None, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distances_between_slices_are_those_of_their_positions(axis, tmp_path):
    """Whatever a header says of them, and whichever way the slices lie; one of them is missing."""
    axes = {0: [0, 1, 0, 0, 0, -1], 1: [1, 0, 0, 0, 0, -1], 2: [1, 0, 0, 0, 1, 0]}[axis]
    for number, at in enumerate((0.0, 3.0, 9.0, 12.0, 15.0)):
        place = np.roll([at, 0.0, 0.0], axis).tolist()
        write_slice(
            tmp_path / "ct" / f"{number}.dcm", np.zeros((8, 8)), place, number, SliceThickness="",
            ImageOrientationPatient=axes, SpacingBetweenSlices=7.0,
        )  # fmt: skip
    source = sorted(by_position(tmp_path / "ct"), key=lambda image: image.InstanceNumber)
    dicom_seg.write_segmentation(tmp_path / "s.dcm", source, np.ones((5, 8, 8, 1), "u1"), ["ann"])
    seg = highdicom.seg.segread(tmp_path / "s.dcm")
    plane = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(plane.SliceThickness) == 3.0
    assert plane.get("SpacingBetweenSlices") != 7.0


def test_garbled_elements_that_a_segmentation_does_not_need_are_no_concern(tmp_path):
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1)
    (source,) = by_position(tmp_path)
    for tag, kind, content in ((0x00189306, "FD", b"123456"), (0x00200013, "IS", b"1.5 ")):
        tag = Tag(tag)
        source[tag] = RawDataElement(tag, kind, len(content), content, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dicom_seg.write_segmentation(
            tmp_path / "s.dcm", [source], np.ones((1, 8, 8, 1), np.uint8), ["ann"]
        )
    assert highdicom.seg.segread(tmp_path / "s.dcm").SegmentSequence[0].SegmentLabel == "ann"


@pytest.mark.parametrize(
    "letters", [None, "", "ISO_IR 6", "ISO_IR 100", "ISO_IR 144", ["", "ISO 2022 IR 87"]]
)
def test_segments_bear_their_raters_names_in_any_script(letters, tmp_path):
    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, SpecificCharacterSet="")
    (source,) = by_position(tmp_path)
    if letters is None:
        del source.SpecificCharacterSet
    else:
        source.SpecificCharacterSet = letters
    source.PatientName = "Yamada^Tarou"
    source.save_as(tmp_path / "a.dcm")
    names = ["山田, sample001", "鈴木, sample001", "Müller", "KLINIK\\mueller"]
    masks = np.ones((1, 8, 8, 4), np.uint8)
    dicom_seg.write_segmentation(tmp_path / "s.dcm", by_position(tmp_path), masks, names)
    seg = highdicom.seg.segread(tmp_path / "s.dcm")
    labels = [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert labels == [*names[:3], "KLINIK/mueller"]
    assert str(seg.PatientName) == "Yamada^Tarou"


def test_labels_that_are_long_keep_what_tells_them_apart():
    rater = "r" * 60
    short = dicom_seg.short_labels([f"{rater}, sample{k:03d}" for k in (1, 2)])
    assert all(len(label) <= 64 for label in short)
    assert [label[-9:] for label in short] == ["sample001", "sample002"]
    alike = [f"{'r' * 40}{name}{'r' * 40}, core" for name in ("ann", "bob")]
    short = dicom_seg.short_labels(alike)
    assert len(set(short)) == 2
    assert all(len(label) <= 64 for label in short)
    assert dicom_seg.short_labels(["ann", "bob"]) == ["ann", "bob"]


def test_pixels_without_a_size_are_no_slice(tiny_run, tmp_path):
    for spacing in ([0, 0], [-0.6, 0.7]):
        write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, PixelSpacing=spacing)
        with pytest.raises(ProSegError, match="a slice with a positive PixelSpacing. Received"):
            sample_file(tiny_run.path, tmp_path / "a.dcm", tmp_path / "out")


def test_values_that_16_bits_do_not_hold_are_kept(tmp_path):
    stored = np.arange(50000, 50064).reshape(8, 8)
    fields = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    write_slice(tmp_path / "a.dcm", stored, (0, 0, 1), 1, **fields)
    found = read_slice(tmp_path / "a.dcm")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored)
    write_slice(tmp_path / "b.dcm", stored, (0, 0, 1), 1)
    assert read_slice(tmp_path / "b.dcm").max() == 2**15 - 1  # of CT no tissue is there


def test_intensities_are_not_read_upside_down(tiny_run, tmp_path):
    stored = np.arange(64).reshape(8, 8)
    for kind in ("MONOCHROME1", "MONOCHROME2"):  # of CT, values are HU and not what is shown
        write_slice(tmp_path / "ct.dcm", stored, (0, 0, 1), 1, PhotometricInterpretation=kind)
        np.testing.assert_array_equal(read_slice(tmp_path / "ct.dcm"), stored - 1024)
    xray = {"Modality": "DX", "RescaleSlope": None, "RescaleIntercept": None}
    for kind, fields in (("MONOCHROME1", xray), ("PALETTE COLOR", xray), ("PALETTE COLOR", {})):
        fields = fields | {"PhotometricInterpretation": kind}
        write_slice(tmp_path / "in" / "a.dcm", stored, (0, 0, 1), 1, **fields)
        text = rf"a.dcm must be a slice whose low values are dark \(MONOCHROME2\). Received: {kind}"
        with pytest.raises(ProSegError, match=text):
            sample_file(tiny_run.path, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_units_of_fine_steps_are_kept(tmp_path):
    stored = np.arange(64).reshape(8, 8)
    fields = {"Modality": "MR", "RescaleSlope": "1E-6", "RescaleIntercept": 0}
    write_slice(tmp_path / "a.dcm", stored, (0, 0, 1), 1, **fields)
    np.testing.assert_allclose(read_slice(tmp_path / "a.dcm"), stored * 1e-6, rtol=1e-6)


def test_pixels_that_no_decoder_reads_name_those_that_would(tmp_path, monkeypatch):
    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1)

    class Compressed:
        @property
        def pixel_array(self):
            raise RuntimeError("plugins are missing dependencies:\n\tpylibjpeg - pip install it")

    monkeypatch.setattr(dicom_slice, "read_dicom", lambda path: Compressed())
    with pytest.raises(ProSegError, match="missing dependencies: pylibjpeg - pip install it"):
        read_slice(tmp_path / "a.dcm")


def test_what_is_odd_in_a_series_is_told(tiny_run, series, tmp_path):
    folder, _ = series
    Path(by_position(folder)[2].filename).unlink()
    with pytest.warns(UserWarning, match=r"a gap between -37.5 and -32.5 mm .* -> download"):
        sample_file(tiny_run.path, folder, tmp_path / "out", None, 2)


def test_how_a_patients_name_is_written_is_no_concern(series, tmp_path, recwarn):
    folder, units = series
    masks = (units > 0).astype(np.uint8)[..., None]
    dicom_seg.write_segmentation(tmp_path / "seg.dcm", by_position(folder), masks, ["ann"])
    assert not [w for w in recwarn if "person name" in str(w.message)]
    _, found = segments(tmp_path / "seg.dcm", by_position(folder), False)
    np.testing.assert_array_equal(found, masks)


@pytest.mark.parametrize("name", dicom_seg.MAY_BE_EMPTY)
def test_what_a_header_may_leave_empty_may_be_absent(name, tmp_path):
    import pydicom

    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, **{name: None})
    source = [pydicom.dcmread(tmp_path / "a.dcm")]
    masks = np.ones((1, 8, 8, 1), np.uint8)
    dicom_seg.write_segmentation(tmp_path / "seg.dcm", source, masks, ["ann"])
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert seg.PatientID == "P1"
    assert name in seg
    assert not seg.get(name)


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID", "SliceThickness"])
def test_what_a_header_must_not_lack_is_named(name, tmp_path):
    import pydicom

    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, **{name: None})
    source, masks = [pydicom.dcmread(tmp_path / "a.dcm")], np.ones((1, 8, 8, 1), np.uint8)
    with pytest.raises(ProSegError, match=f"for a DICOM-SEG. Received: no {name}$"):
        dicom_seg.write_segmentation(tmp_path / "seg.dcm", source, masks, ["ann"])


def test_what_a_segmentation_needs(tmp_path, monkeypatch):
    import pydicom

    write_slice(tmp_path / "a.dcm", np.zeros((8, 8)), (0, 0, 1), 1, FrameOfReferenceUID=None)
    source = [pydicom.dcmread(tmp_path / "a.dcm")]
    masks = np.ones((1, 8, 8, 1), np.uint8)
    with pytest.raises(ProSegError, match="must have whole headers of one series"):
        dicom_seg.write_segmentation(tmp_path / "seg.dcm", source, masks, ["ann"])
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ProSegError, match=r"keras-proseg\[data\]"):
        dicom_seg.write_segmentation(tmp_path / "seg.dcm", source, masks, ["ann"])


def test_evaluate_command_saves_masks(tiny_run, tiny_npz, tmp_path):
    done = run(
        "evaluate", tiny_run.path, "--num-samples", 2, "--save-masks", tmp_path / "masks",
        "--split", "train",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    dataset = cases_of_run(tiny_run, None, "train")
    assert len(dataset) > 16  # of which the masks are worked out at once
    stored = np.load(tmp_path / "masks" / "masks.npz")
    assert stored["case_ids"].tolist() == dataset.case_ids.tolist()
    np.testing.assert_array_equal(stored["masks"], predicted(load(tiny_run.path), dataset))


def test_masks_of_two_crops_of_a_slice_are_united(tmp_path):
    volume, places = Volume("a.png", ".png", (1, 32, 32), "a"), np.empty(2, object)
    places[:] = [Place(volume, 0, (32, 32), (0, 0)), Place(volume, 0, (32, 32), (16, 16))]
    images = np.random.default_rng(0).random((2, 16, 16, 1)).astype(np.float32)
    dataset = Dataset.from_arrays(images, np.ones((2, 1, 16, 16), np.uint8), places=places)
    # What a threshold would draw.
    model = SimpleNamespace(raters=["bob"], rater_moments=lambda images: (images[:, None], None))
    save_masks(model, dataset, tmp_path / "out")
    with Image.open(tmp_path / "out" / "a" / "mask-bob.png") as picture:
        found = np.asarray(picture) > 0
    np.testing.assert_array_equal([found[:16, :16], found[16:, 16:]], images[..., 0] > 0.5)


def test_segments_of_several_structures_bear_their_names(tiny_run, series, tmp_path):
    folder, units = series
    model = tiny(num_classes=2, views=1)
    named = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    named.save_model(model, "best")
    config = read_json(named.config_file)
    config["data"]["notes"] = {"structures": ["core", "rim"]}
    config["model"]["num_classes"] = 2
    write_json(named.config_file, config)
    sample_file(named.path, folder, tmp_path / "out", "bob", 2, seed=2)
    expected = model.sample(units[..., None], "bob", 2, 2) > 0.5
    seg, found = segments(tmp_path / "out" / "masks.dcm", by_position(folder), False)
    labels = [seg.get_segment_description(n).segment_label for n in seg.segment_numbers]
    parts = ("sample001_core", "sample001_rim", "sample002_core", "sample002_rim")
    assert labels == [f"rater bob, {part}" for part in parts]
    for number, (s, k) in enumerate(np.ndindex(2, 2)):
        np.testing.assert_array_equal(found[..., number], expected[:, s, ..., k])
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "a.png")
    written = sample_file(named.path, tmp_path / "a.png", tmp_path / "png", None, 2)
    names = {path.stem for path in written if path.suffix == ".png"} - {"samples"}
    assert names == {f"{kind}_{part}" for kind in ("masks", "probabilities") for part in parts}


def test_reading_dicom_imports_no_backend():
    code = (
        "import sys, keras_proseg.data.lidc.scans, keras_proseg.outputs.dicom_seg;"
        "print(*({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_masks_of_resampled_cases_are_those_of_their_probabilities(content, tmp_path):
    """Probabilities are brought back, and not masks, whose outlines would be jagged."""
    path = files.write_manifest(tmp_path / "in", content, volume=1)
    dataset = read_dataset(str(path), DataConfig(fit="resample", size=16))
    means = np.random.default_rng(0).random((len(content), 1, 16, 16, 1)).astype(np.float32)
    at = {image.tobytes(): row for row, image in enumerate(dataset.images)}

    def moments(images):
        return means[[at[image.tobytes()] for image in images]], None

    model = SimpleNamespace(raters=["bob"], rater_moments=moments)
    save_masks(model, dataset, tmp_path / "out")
    for row, case in enumerate(content):
        saved = nibabel.load(tmp_path / "out" / case / "mask-bob.nii.gz")
        found = np.asarray(saved.dataobj).reshape(32, 32)
        np.testing.assert_array_equal(found, resize(means[row, 0, ..., 0], (32, 32)) > 0.5)
    stored = files.write_pickle(tmp_path / "data.pickle", content)
    dataset = read_dataset(str(stored), DataConfig(rater_order="given", fit="resample", size=16))
    at = {image.tobytes(): row for row, image in enumerate(dataset.images)}
    (written,) = save_masks(model, dataset, tmp_path / "npz")
    assert (np.load(written)["sizes"] == 16).all()
    assert (np.load(written)["shapes"] == 32).all()


def test_grey_is_in_proportion_to_the_probability(tmp_path):
    write_png(tmp_path / "a.png", np.array([[0.0, 0.25, 0.5, 1.0]]))
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 64, 128, 255]]


def test_segments_of_raters_and_structures_bear_their_own_masks(tmp_path):
    folder = write_series(tmp_path / "series", np.zeros((2, 8, 8), np.int16))
    volume, places = Volume(str(folder), "dicom", (2, 8, 8), "P1"), np.empty(2, object)
    places[:] = [Place(volume, z, (8, 8)) for z in (0, 1)]
    images = np.zeros((2, 8, 8, 1), np.float32)
    dataset = Dataset.from_arrays(images, np.ones((2, 2, 8, 8, 2), np.uint8), places=places)
    means = np.zeros((2, 8, 8, 2), np.float32)  # (R, H, W, K), a row for each of both
    for r, k in np.ndindex(2, 2):
        means[r, 2 * r + k, :, k] = 1
    model = SimpleNamespace(raters=["ann", "bob"], rater_moments=lambda given: (means[None], None))
    (written,) = save_masks(model, dataset, tmp_path / "out")
    seg = highdicom.seg.segread(written)
    labels = [seg.get_segment_description(n).segment_label for n in seg.segment_numbers]
    assert labels == ["ann, class1", "ann, class2", "bob, class1", "bob, class2"]
    shown = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    uids = [one.ReferencedSOPInstanceUID for one in shown]
    found = seg.get_pixels_by_source_instance(uids)  # (Z, H, W, L)
    assert found.any(axis=(0, 2)).argmax(axis=0).tolist() == [0, 1, 2, 3]

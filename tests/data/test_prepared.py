"""The prepared file reads as the data set it was made of, from disk."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import source_files as files
from test_cli import run

from keras_proseg import training
from keras_proseg.config import DataConfig
from keras_proseg.data import prepared as prepared_files
from keras_proseg.data import preparing
from keras_proseg.data.dataset import Dataset, mask_areas, rank_by_area
from keras_proseg.data.lazy import LazyRows, PackedMasks, channel_moments
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.preparing import write_prepared
from keras_proseg.data.sources import read_dataset, verify_source
from keras_proseg.errors import ProSegError, UsageError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """12 cases of volumes, bob missing from two; masks of 32 x 27 pixels end inside a byte."""
    folder = tmp_path_factory.mktemp("manifest")
    path = files.write_manifest(folder, files.cases(), volume=2)
    return read_dataset(str(path), DataConfig(fit="crop", size=27))


@pytest.fixture
def prepared(dataset, tmp_path):
    write_prepared(dataset, tmp_path / "data")
    return load_prepared([tmp_path / "data"])


def assert_same(found, expected):
    assert isinstance(found.images, LazyRows)
    assert isinstance(found.masks, PackedMasks)
    for name in ("images", "masks", "annotated", "case_ids", "patients", "spacing"):
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), getattr(expected, name))
    assert found.places.tolist() == expected.places.tolist()
    assert (found.split is None) == (expected.split is None)
    for name in ("raters", "group_by", "source", "image_kind", "notes", "rater_order", "dropped"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.fingerprint() == expected.fingerprint()


def test_round_trip(prepared, dataset):
    assert_same(prepared, dataset)
    rows = np.array([7, 0, 3])
    assert_same(prepared.take(rows), dataset.take(rows))
    assert_same(prepared.take(rows).take(np.array([2])), dataset.take(np.array([3])))
    assert prepared[1].masks.keys() == dataset[1].masks.keys()


def test_an_older_file_has_names_as_they_are_written_now(dataset, tmp_path):
    raters = ("Zoe\u0308", "bob ", "cy")
    old = replace(dataset, raters=raters, patients=np.char.add(dataset.patients, " "))
    write_prepared(old, tmp_path / "old")
    found = load_prepared([tmp_path / "old"])
    assert found.raters == ("Zo\u00eb", "bob", "cy")
    np.testing.assert_array_equal(found.patients, dataset.patients)


def test_a_training_on_it_knows_the_scale_of_its_images(prepared, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_trained", lambda run, *_: run)
    source = str(tmp_path / "data")
    config = training.train(source, tmp_path / "run", lambda line: None).train_config()
    assert (config.spacing, config.fit, config.size) == (None, "crop", 27)
    with pytest.raises(UsageError, match="`size` must be 27, as .* Received: 32"):
        training.train(source, tmp_path / "other", fit="crop", size=32)
    assert not (tmp_path / "other").exists()
    for command in (read_dataset, verify_source):
        with pytest.raises(UsageError, match="`spacing` must be None, as of the data"):
            command(source, DataConfig(spacing=0.5))
    with pytest.raises(UsageError, match="`fit` must be exact, as of the data"):
        plain = replace(dataset, notes={})
        training.train(plain, tmp_path / "other", fit="pad")


def test_it_answers_as_an_array_does(prepared, dataset):
    for index in (0, -1, slice(2, 5), np.array([5, 1]), (3, 1), (slice(0, 4), 0), (..., 0)):
        np.testing.assert_array_equal(prepared.masks[index], dataset.masks[index])
        np.testing.assert_array_equal(prepared.images[index], dataset.images[index])
    assert prepared.masks.shape == dataset.masks.shape
    assert prepared.images.ndim == 4
    mean, std = channel_moments(prepared.images)
    assert mean == pytest.approx(dataset.images.mean((0, 1, 2), dtype=float))
    assert std == pytest.approx(dataset.images.std((0, 1, 2), dtype=float))
    assert np.asarray(prepared.images, np.float64).dtype == np.float64
    assert np.asarray(prepared.masks, np.float32).dtype == np.float32
    np.testing.assert_array_equal(mask_areas(prepared), mask_areas(dataset))


def test_ranks_are_taken_from_disk(prepared, dataset):
    turned = Dataset.from_arrays(np.asarray(dataset.images), dataset.masks[:, ::-1])
    assert (np.diff(mask_areas(turned), axis=1) < 0).any()
    expected = rank_by_area(dataset)
    ranked = rank_by_area(prepared)
    assert isinstance(ranked.masks, PackedMasks)
    np.testing.assert_array_equal(np.asarray(ranked.masks), expected.masks)
    np.testing.assert_array_equal(np.asarray(ranked.take(np.array([4, 2])).masks),
                                  expected.masks[[4, 2]])  # fmt: skip
    order = np.tile([2, 1, 0], (len(dataset), 1))
    twice = prepared.masks.reordered(order).reordered(order)
    np.testing.assert_array_equal(np.asarray(twice), dataset.masks)


def test_shards_are_one_data_set(dataset, tmp_path):
    written = write_prepared(dataset, tmp_path / "shards", shards=5)
    assert len(written) == 5
    found = read_dataset(str(tmp_path / "shards"))
    assert_same(found, dataset)
    assert_same(found.take(np.array([11, 0, 6])), dataset.take(np.array([11, 0, 6])))
    written[2].unlink()
    with pytest.raises(ProSegError, match=r"a folder of all 5 shards.*shard-0003-of-0005"):
        read_dataset(str(tmp_path / "shards"))
    other = Dataset.from_arrays(dataset.images, dataset.masks, raters=["x", "y", "z"])
    write_prepared(other, written[2])
    with pytest.raises(ProSegError, match="a shard of the same data"):
        read_dataset(str(tmp_path / "shards"))


def test_every_damage_is_refused(dataset, tmp_path):
    path = tmp_path / "data"
    write_prepared(dataset, path)
    whole = path.read_bytes()
    import h5py

    with h5py.File(path) as file:  # any reader of HDF5 opens it
        np.testing.assert_array_equal(file["images"], dataset.images)
    places = np.random.default_rng(0).integers(0, len(whole), 60).tolist()
    for place in [*places, *range(0, 2048, 97)]:
        broken = bytearray(whole)
        broken[place] ^= 0x55
        path.write_bytes(broken)
        with pytest.raises(ProSegError, match="prepared file"):
            load_prepared([path])
    for end in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ProSegError, match="prepared file"):
            load_prepared([path])


def test_arrays_in_chunks_are_refused(dataset, tmp_path):
    """Another program may write them, with a checksum that is right."""
    import h5py

    path = tmp_path / "data"
    write_prepared(dataset, path)
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_dataset("images", data=dataset.images, chunks=True)
    with path.open("r+b") as handle:
        handle.write(prepared_files.MARK + prepared_files.digest_of(path).encode())
    with pytest.raises(ProSegError, match="images must be contiguous. Received: chunks"):
        load_prepared([path])


def test_places_that_cannot_be_written(dataset, tmp_path):
    with pytest.raises(UsageError, match="`--shards` must be 1 to 12. Received: 13"):
        write_prepared(dataset, tmp_path / "x", shards=13)
    with pytest.raises(UsageError, match="`--out` must be a new file, or a prepared one"):
        write_prepared(dataset, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        write_prepared(dataset, tmp_path / "full", shards=2)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_a_source_is_not_replaced_by_what_is_prepared_of_it(tmp_path, arrays):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    whole = path.read_bytes()
    done = run("data", "prepare", path, "--out", path)
    assert done.exit_code == 2
    assert "`--out` must be a new file, or a prepared one to be replaced" in done.output
    assert path.read_bytes() == whole
    for _ in range(2):
        again = run("data", "prepare", path, "--out", tmp_path / "data")
        assert again.exit_code == 0, again.output
    itself = run("data", "prepare", tmp_path / "data", "--out", tmp_path / "data")
    assert itself.exit_code == 0, itself.output
    assert len(load_prepared([tmp_path / "data"])) == 24


KILLED = """
import sys, time
from keras_proseg.data import preparing
from keras_proseg_cli.main import main
finish = preparing.PreparedWriter.finish
def slow(self, about):
    print("writing", flush=True); time.sleep(60)
preparing.PreparedWriter.finish = slow
main(["data", "prepare", *sys.argv[1:]])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_preparation_leaves_no_file(number, tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    (tmp_path / "out").mkdir()
    arguments = [tmp_path / "x.npz", "--out", tmp_path / "out" / "data"]
    command = [sys.executable, "-c", KILLED, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    time.sleep(0.1)
    os.kill(process.pid, number)
    left = process.wait()
    assert not (tmp_path / "out" / "data").exists()
    if number == signal.SIGTERM:  # a chance to tidy up
        assert left == 143
        assert not list((tmp_path / "out").iterdir())


def test_a_training_on_it_sees_through_the_window_it_was_prepared_for(
    tmp_path, arrays, monkeypatch
):
    monkeypatch.setattr(training, "_trained", lambda run, model, *_: model)
    np.savez(tmp_path / "x.npz", **arrays, patient_ids=np.arange(24) // 2)
    window = ("--window-center", 40, "--window-width", 100)
    done = run("data", "prepare", tmp_path / "x.npz", "--out", tmp_path / "data", *window)
    assert done.exit_code == 0, done.output
    model = training.train(str(tmp_path / "data"), tmp_path / "run", lambda line: None)
    assert (model.intensity.mode, model.intensity.center) == ("window", 40)
    with pytest.raises(UsageError, match="`window_center` must be 40.0, as of the data"):
        training.train(str(tmp_path / "data"), tmp_path / "b", window_center=0, window_width=100)


@pytest.mark.filterwarnings("ignore:.*learnt from")
def test_prepare_and_evaluate(tiny_run, tmp_path):
    from keras_proseg.evaluation import evaluate_run

    path = files.write_manifest(tmp_path, files.cases())
    done = run("data", "prepare", path, "--out", tmp_path / "data", "--fit", "crop", "--size", 24)
    assert done.exit_code == 0, done.output
    assert "MB" in done.output
    assert "6 cases of 3 patients" in done.output
    shards = run("data", "prepare", path, "--out", tmp_path / "shards", "--shards", 2)
    assert shards.output.count("shard-000") == 2
    again = run("data", "verify", tmp_path / "data")
    assert again.exit_code == 0, again.output
    expected = evaluate_run(tiny_run.path, str(path), num_samples=2)
    assert (
        evaluate_run(tiny_run.path, str(tmp_path / "shards"), num_samples=2)["ged"]
        == (expected["ged"])
    )
    (tmp_path / "data").write_bytes((tmp_path / "data").read_bytes()[:-5])
    damaged = run("data", "verify", tmp_path / "data")
    assert damaged.exit_code == 1
    assert "must be a whole prepared file" in damaged.output
    assert "prepare the data again" in damaged.output


@pytest.mark.parametrize("order", ["given", "area"])
def test_training_sees_the_same_batches(dataset, tmp_path, order):
    from keras_proseg.config import ModelConfig, TrainConfig
    from keras_proseg.data.pipeline import BatchReader
    from keras_proseg.data.sources import load_dataset
    from keras_proseg.data.split import split_dataset, subset
    from keras_proseg.training import fit_config

    write_prepared(dataset, tmp_path / "data")
    mapped = load_dataset(str(tmp_path / "data"), TrainConfig(rater_order=order))
    held = split_dataset(rank_by_area(dataset) if order == "area" else dataset)
    sides = [subset(one, "train") for one in (mapped, held)]
    readers = [BatchReader(side, TrainConfig(batch_size=4, seed=3)) for side in sides]
    for step in range(5):
        batches = [reader.batch(step) for reader in readers]
        for name in ("image", "masks", "annotated"):
            np.testing.assert_array_equal(batches[0][name], batches[1][name])
    configs = [fit_config(ModelConfig(), one) for one in (mapped, held)]
    assert configs[0].raters == configs[1].raters
    assert configs[0].intensity.mean == pytest.approx(configs[1].intensity.mean)
    assert configs[0].intensity.std == pytest.approx(configs[1].intensity.std)


def test_a_full_disk_is_one_line_and_nothing_is_left(tiny_npz, tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from keras_proseg_cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "data", "prepare", tiny_npz, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: Cannot write")
    assert "File too large" in line
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_left_as_it_is(dataset, tmp_path, monkeypatch):
    """HDF5 would crash on one that has some for its header only."""
    size = dataset.images.nbytes + 12 * 3 * -(-27 * 27 // 8)
    opened = []
    monkeypatch.setattr(preparing, "prepared_writer", lambda *_: opened.append(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size - 1))
    with pytest.raises(ProSegError, match="Received: No space left on device"):
        write_prepared(dataset, tmp_path / "data")
    assert not list(tmp_path.iterdir()) + opened
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))
    write_prepared(dataset, tmp_path / "data")

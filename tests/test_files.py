import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from keras_proseg import (
    files,
)
from keras_proseg.data.preparing import check_target
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.files import atomic_file, atomic_folder, check_folder, check_new_folder
from keras_proseg.text_files import read_json, with_nan, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"a": 1})
    with pytest.raises(ProSegError, match="No space left"), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_elsewhere_is_not_taken_for_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("half")
        (tmp_path / "missing").read_text()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProSegError, match="Cannot write .*out: "), atomic_folder(tmp_path / "out"):
        (tmp_path / "out").write_text("")


def test_a_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "one") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "one").exists()
    assert (tmp_path / "one" / "x").read_text() == "x"


@pytest.mark.parametrize("given", ["there", "link", "."])
def test_a_folder_that_is_there_is_filled_and_not_replaced(given, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    before = (tmp_path / "there").stat().st_ino
    path = Path(given) if given == "." else tmp_path / given
    with atomic_folder(path) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "x").write_text("x")
        assert not [p for p in (tmp_path / "there").iterdir() if p.name == "below"]
    assert (tmp_path / "there").stat().st_ino == before
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["below"]
    assert (tmp_path / "there" / "below" / "x").read_text() == "x"


def test_through_a_link_its_target_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.json").write_text("{}")
    for name, target in {"file": "disk/a.json", "new": "disk/b.json", "folder": "disk/f"}.items():
        (tmp_path / name).symlink_to(target)
    write_json(tmp_path / "file", {"a": 1})
    write_json(tmp_path / "new", {"b": 2})
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "x").write_text("x")
    assert all((tmp_path / name).is_symlink() for name in ("file", "new", "folder"))
    assert read_json(tmp_path / "disk" / "a.json") == {"a": 1}
    assert read_json(tmp_path / "disk" / "b.json") == {"b": 2}
    assert (tmp_path / "disk" / "f" / "x").read_text() == "x"
    assert len(list(tmp_path.iterdir())) == 4
    assert len(list((tmp_path / "disk").iterdir())) == 3
    with pytest.raises(ProSegError, match="No space left"), atomic_file(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(tmp_path / "file") == {"a": 1}


def test_through_a_link_the_own_suffix_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "samples.png").symlink_to("store/x123")
    with atomic_file(tmp_path / "samples.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("x")
    assert (tmp_path / "store" / "x123").read_text() == "x"


def test_what_a_killed_process_left_is_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path) as folder:
        (left := folder.parent.with_name(folder.parent.name + "-killed")).mkdir()
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == [left.name]
    check_new_folder(tmp_path, "--out")
    with atomic_folder(tmp_path) as folder:
        (folder / "x").write_text("x")
    assert {p.name for p in tmp_path.iterdir()} == {left.name, "x"}
    with pytest.raises(UsageError, match="new or empty folder"):
        check_new_folder(tmp_path, "--out")


def test_a_folder_that_somebody_else_fills_meanwhile_is_left_alone(tmp_path):
    refused = pytest.raises(ProSegError, match="must stay empty meanwhile. Received: x")
    with refused, atomic_folder(tmp_path) as folder:
        (folder / "x").write_text("ours")
        (tmp_path / "x").write_text("theirs")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "theirs"


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr("os.fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    with atomic_folder(tmp_path / "one") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "x").write_text("x")
        assert not synced
    every = [tmp_path / "one", *(tmp_path / "one").rglob("*")]
    assert len(every) == 3
    assert synced >= {path.stat().st_ino for path in every}


def test_json_has_null_for_what_is_no_number(tmp_path):
    scores = {"ged": 0.5, "ncc": np.nan, "ged_ci": [np.float64("nan"), np.inf], "images": "ct"}
    write_json(tmp_path / "x.json", {"deep": {"scores": scores}})
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    found = found["deep"]["scores"]
    assert found == {"ged": 0.5, "ncc": None, "ged_ci": [None, None], "images": "ct"}
    back = with_nan(found)
    assert np.isnan([back["ncc"], *back["ged_ci"]]).all()
    assert (back["ged"], back["images"]) == (0.5, "ct")


def test_unwritable_and_unreadable(tmp_path):
    (tmp_path / "file").write_text("{")
    with pytest.raises(ProSegError, match="writable place"):
        write_json(tmp_path / "file" / "below.json", {})
    with pytest.raises(ProSegError, match="expected a JSON file"):
        read_json(tmp_path / "file")


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProSegError, match="Cannot write .*Received: .*file, Not a directory"):
        check_new_folder(tmp_path / "file" / "below" / "out", "--out")
    for check in (check_new_folder, check_folder):
        check(tmp_path / "below" / "out", "--out")
        with pytest.raises(ProSegError, match="Cannot write .*Received: /proc, No such file"):
            check(Path("/proc/below/out"), "--out")
    (tmp_path / "dead").symlink_to("/proc/below/out")
    with pytest.raises(UsageError, match="`--out` must be a folder. Received: .*dead"):
        check_folder(tmp_path / "dead", "--out")
    for check in (check_new_folder, lambda path, option: check_target(path, 1)):
        with pytest.raises(ProSegError, match="Cannot write .*dead: .*Received: /proc, No such"):
            check(tmp_path / "dead", "--out")
    (tmp_path / "dead").unlink()
    check_target(tmp_path / "x.h5", 1)
    with pytest.raises(ProSegError, match="Cannot write /proc/below/x.h5: "):
        check_target(Path("/proc/below/x.h5"), 1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def noted(handle):
        synced.append((tmp_path / "a").exists())
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", noted)
    with files.atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert synced == [False]

import errno

import pytest

from keras_proseg.errors import ProSegError
from keras_proseg.files import atomic_file, atomic_folder, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"a": 1})
    with pytest.raises(ProSegError, match="No space left"), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "one") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "one").exists()
    assert (tmp_path / "one" / "x").read_text() == "x"


def test_unwritable_and_unreadable(tmp_path):
    (tmp_path / "file").write_text("{")
    with pytest.raises(ProSegError, match="writable place"):
        write_json(tmp_path / "file" / "below.json", {})
    with pytest.raises(ProSegError, match="expected a JSON file"):
        read_json(tmp_path / "file")

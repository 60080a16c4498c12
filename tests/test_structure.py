"""Walls between the rooms, read from the syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import keras_proseg_cli
import pytest

import keras_proseg

PACKAGE = Path(keras_proseg.__file__).parent
BACKENDS = {"tensorflow", "tensorflow_probability", "tf_keras", "jax", "numpyro", "torch"}
# distributions/, runtime/ and trainers/ hold modules named after one backend; tf.data feeds
# TensorFlow, and every export is a TensorFlow graph first.
ROOMS = {
    "distributions/tensorflow.py", "distributions/jax.py", "distributions/torch.py",
    "runtime/tensorflow.py", "runtime/jax.py", "runtime/torch.py",
    "trainers/tensorflow.py", "trainers/jax.py", "trainers/torch.py", "trainers/tensorflow_adam.py",
    "data/pipeline.py", "export/answers.py", "export/graphs.py", "export/litert.py",
    "export/moments.py", "export/onnx.py", "export/passes.py", "export/portable.py",
    "export/preferences.py", "export/saved_model.py", "export/signatures.py", "export/warmup.py",
}  # fmt: skip
TYPES = {"TYPE_CHECKING"}  # names of types alone are no imports
# What a room may import of the package beside itself: so no arrow goes round.
WALLS = {
    "config": {"errors"},
    "metrics": {"errors"},
    "runtime": {"backends", "errors"},
    "distributions": {"backends", "config", "errors"},
    "layers": {"config", "distributions", "errors", "runtime"},
    "trainers": {"errors", "runtime"},
    "data": {"config", "errors", "extras", "files", "progress"},
    "sampling": {
        "config",
        "data",
        "distributions",
        "errors",
        "graphs",
        "layers",
        "memory",
        "runtime",
    },
    "audit": {"data", "errors", "extras", "files", "metrics", "plotting", "progress", "text_files"},
}


def imported(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            found |= {a.value.split(".")[0] for a in node.args if _is_text(a)}
    return found


def neighbours(path):
    """Rooms and files of the package that `path` imports, of its own room too."""
    found, tree = set(), ast.parse(path.read_text())
    types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and _name(n.test) in TYPES]
    aside = {id(inner) for node in types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in aside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("keras_proseg.")}


def _name(function):
    return getattr(function, "id", getattr(function, "attr", None))


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_every_way_to_import_is_seen(tmp_path):
    file = tmp_path / "file.py"
    file.write_text(
        "import torch.nn\ndef f():\n from jax import numpy\n import_module('numpyro.x')\n"
        " importlib.import_module('tf_keras')\nfrom .torch import x\n"
    )
    assert imported(file) == {"torch", "jax", "numpyro", "tf_keras"}


def test_every_neighbour_is_seen(tmp_path):
    file = tmp_path / "file.py"
    file.write_text(
        "import keras_proseg.data.split, os\nfrom keras_proseg import objective as obj\n"
        "def f():\n from keras_proseg.trainers import Adam\n"
    )
    assert neighbours(file) == {"data", "objective", "trainers"}


@pytest.mark.parametrize("room", WALLS)
def test_a_room_imports_those_below_it_only(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert neighbours(path) <= WALLS[room] | {room}, path


def test_the_command_line_names_no_backend():
    door = Path(keras_proseg_cli.__file__).parent
    for path in door.glob("*.py"):
        assert not imported(path) & BACKENDS, path


def test_backends_are_named_in_their_rooms_only():
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if imported(path) & BACKENDS
    }
    assert named == ROOMS


def test_the_model_does_not_ask_which_backend_runs():
    asking = [p for p in PACKAGE.rglob("*.py") if "backend.backend()" in p.read_text()]
    assert {path.relative_to(PACKAGE).as_posix() for path in asking} == {
        "backends.py", "versions.py", "data/pipeline.py", "distributions/__init__.py",
        "export/__init__.py", "runtime/__init__.py", "trainers/__init__.py",
    }  # fmt: skip


@pytest.mark.parametrize("room", ["distributions", "runtime", "trainers"])
def test_each_room_names_its_own_backend_only(room):
    for path in (PACKAGE / room).glob("*.py"):
        others = BACKENDS - {path.stem.split("_")[0]} - {"tensorflow_probability", "numpyro"}
        assert not imported(path) & others, path


def test_the_version_is_one():
    root = Path(__file__).parents[1]
    assert f'version="{keras_proseg.__version__}"' in (root / "setup.py").read_text()
    assert f"version: {keras_proseg.__version__}\n" in (root / "CITATION.cff").read_text()


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, keras_proseg, keras_proseg.config;"
        "print(*({'numpy', 'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_names_are_of_the_types_they_are_said_to_be():
    """What `__getattr__` gives is `Any` to who checks types, but for imports made for them."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    named = {alias.asname: node.module for node in block.body for alias in node.names}
    assert named == keras_proseg._NAMES

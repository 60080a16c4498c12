"""One export of a run."""

from dataclasses import dataclass

from keras_proseg.config.checks import check_choice, check_least, check_types
from keras_proseg.config.samples import NUM_SAMPLES
from keras_proseg.errors import UsageError

MOST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class ExportConfig:
    """One export of a run.

    Attributes:
        format: `"saved_model"` (TensorFlow Serving), `"onnx"` or `"litert"`.
        version: of the model; left out, the one after the highest there is.
        num_samples: S of the signature `sample` (of onnx, what is sent says it).
        precision: of the weights: `"float32"`, or (litert) `"float16"` or `"int8"`.
        height: (litert) of every image; (saved_model) of the images that warm the server up.
        width: likewise, of every image or of those.
    """

    format: str = "saved_model"
    version: int | None = None
    num_samples: int = NUM_SAMPLES
    precision: str = "float32"
    height: int = 128
    width: int = 128

    def __post_init__(self) -> None:
        check_types(self)
        for name, allowed in EXPORT_CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        check_least(self, ("version", "num_samples", "height", "width"), 1)
        if (self.version or 1) > MOST_VERSION:
            text = f"`version` must be at most {MOST_VERSION}, which a server reads."
            raise UsageError(f"{text} Received: {self.version}")
        sizes = ("num_samples", "height", "width")
        given = [name for name in sizes if getattr(self, name) != getattr(ExportConfig, name)]
        if self.format == "onnx" and given:
            text = f"`{given[0]}` must be left out of onnx: what is sent says it."
            raise UsageError(f"{text} Received: {getattr(self, given[0])}")
        if self.precision != "float32" and self.format != "litert":
            text = "`precision` must be float32 unless the format is litert."
            raise UsageError(f"{text} Received: {self.precision}")


EXPORT_CHOICES = {
    "format": ("saved_model", "onnx", "litert"),
    "precision": ("float32", "float16", "int8"),
}

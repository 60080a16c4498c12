"""What a server must know of the model it serves: plain JSON values."""

from pathlib import Path
from typing import Any

from keras_proseg.config import LEAST_CONCENTRATION, ExportConfig, IntensityConfig
from keras_proseg.files import read_json
from keras_proseg.runs import Run, versions

INTENSITY_FIELDS = {
    "divide": ("scale",), "window": ("center", "width"), "zscore": ("mean", "std")
}  # fmt: skip


def describe(run: Run, model: Any, config: ExportConfig) -> dict[str, Any]:
    """Raters, classes, input, training data, metrics and versions of a run.

    Raises:
        ProSegError: a file of the run is damaged.
    """
    settings = model.settings
    return {
        "package": "keras_proseg",
        "raters": list(model.raters),
        "num_classes": settings.num_classes,
        "num_samples": config.num_samples,
        "input": {
            "channels": settings.image_channels,
            "layout": "(batch, height, width, channels), float32, raw intensities",
            "intensity": intensity(settings.intensity),
        },
        "latents": latents(model),
        "training": training(run, model),
        "metrics": metrics(run),
        "versions": {"training": run.config.get("versions"), "export": versions()},
    }


def intensity(settings: IntensityConfig) -> dict[str, Any]:
    """How the graph scales raw pixels, and the range it expects."""
    fields = {name: getattr(settings, name) for name in INTENSITY_FIELDS[settings.mode]}
    return {"mode": settings.mode, **fields, "range": expected_range(settings)}


def expected_range(settings: IntensityConfig) -> list[float]:
    """Lowest and highest raw value that the scaling is made for."""
    if settings.mode == "divide":
        return [0.0, settings.scale]
    if settings.mode == "window":
        return [settings.center - settings.width / 2, settings.center + settings.width / 2]
    return [settings.mean - 3 * settings.std, settings.mean + 3 * settings.std]


def latents(model: Any) -> dict[str, Any]:
    """What a client needs who brings the noise: sizes, and q(tau|r) of every rater."""
    settings = model.settings
    return {
        "tau_size": settings.tau_size,
        "tau_concentration": _concentrations(model),
        "z_size": settings.ambiguity_size,
        "z_stride": settings.ambiguity_stride,
        "z_per_rater": settings.ambiguity_per_rater,
        "padded_to_multiple_of": model.backbone.total_stride,
        "mean_samples": settings.mean_samples,
    }


def _concentrations(model: Any) -> list[list[float]]:
    """Of q(tau|r), (R, T)."""
    from keras import ops

    raw = ops.softplus(model.preference.concentration)
    return ops.convert_to_numpy(ops.maximum(raw, LEAST_CONCENTRATION)).tolist()


def training(run: Run, model: Any) -> dict[str, Any]:
    """Data and settings of the training; of paths only the last part."""
    config = run.config
    data = dict(config.get("data", {}))
    data["source"] = Path(data["source"]).name if data.get("source") else "arrays"
    settings = {k: v for k, v in config.get("train", {}).items() if k != "dicom"}
    return {"steps": model.steps_done, "data": data, "settings": settings}


def metrics(run: Run) -> dict[str, Any] | None:
    """The run's metrics.json; None for a run that was stopped before it was scored."""
    file = run.path / "metrics.json"
    return read_json(file) if file.is_file() else None

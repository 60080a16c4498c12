"""What a server must know of the model it serves: plain JSON values."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import INTENSITY_USED, LEAST_CONCENTRATION, ExportConfig, IntensityConfig
from keras_proseg.errors import ProSegError
from keras_proseg.intensities import known_intensities
from keras_proseg.pretrained import card_of
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, without_nan
from keras_proseg.versions import versions

SHIPPED_CARD = "SHIPPED_CARD.md"  # the name of a shipped model's own card among an export's files


def describe(run: Run, model: Any, config: ExportConfig) -> dict[str, Any]:
    """Raters, classes, input, training data, metrics and versions of a run.

    Raises:
        ProSegError: a file of the run is damaged, or of another run than the model.
    """
    settings = model.settings
    trained = run.section("model").get("raters")
    if trained != list(model.raters):
        text = f"{run.config_file} must be of the run's model, whose raters are {model.raters}."
        raise ProSegError(f"{text} Received: {trained}")
    return {
        "package": "keras_proseg",
        "format": config.format,
        "precision": config.precision,
        "raters": list(model.raters),
        "num_classes": settings.num_classes,
        # In ONNX the client's tau and noise say how many.
        "num_samples": None if config.format == "onnx" else config.num_samples,
        "input": {
            "channels": settings.image_channels,
            **_size(config),
            "scale": scale_line(run),
            "layout": "(batch, height, width, channels), float32, raw intensities",
            "intensity": intensity(run, settings.intensity),
        },
        "latents": latents(model),
        "training": training(run, model),
        "metrics": metrics(run),
        "versions": {"training": run.section("versions"), "export": versions()},
    }


def _size(config: ExportConfig) -> dict[str, int | None]:
    """Height and width of every image; None where they are free."""
    fixed = config.format == "litert"
    return {name: getattr(config, name) if fixed else None for name in ("height", "width")}


def scale_line(run: Run) -> str:
    """What images are to be brought to before they are sent, as those of the training were."""
    if card_of(run):
        said = run.section("data").get("input", "as others were")
        return f"{said}: see {SHIPPED_CARD}, Input"
    settings = run.section("train")
    parts = [f"{settings['spacing']} mm per pixel"] if settings.get("spacing") else []
    if settings.get("fit") == "resample":
        parts.append(f"the longer side resampled to {settings['size']} pixels")
    return "bring images to " + " and ".join(parts) if parts else "as it is"


def intensity(run: Run, settings: IntensityConfig) -> dict[str, Any]:
    """How the graph scales raw pixels, and the range of its training (older runs: it expects)."""
    fields = {name: getattr(settings, name) for name in INTENSITY_USED[settings.mode]}
    several = isinstance(settings.mean, tuple)  # channels, which are known together only
    known = None if several else known_intensities(run)
    seen = [known.low[0], known.high[1]] if known else expected_range(settings)
    return {"mode": settings.mode, **fields, "range": seen}


def expected_range(settings: IntensityConfig) -> list[Any]:
    """Lowest and highest raw value that the scaling is made for; lists where channels differ."""
    if settings.mode == "divide":
        return [0.0, settings.scale]
    if settings.mode == "window":
        return [settings.center - settings.width / 2, settings.center + settings.width / 2]
    mean, std = np.broadcast_arrays(settings.mean, settings.std)
    return [(mean - 3 * std).tolist(), (mean + 3 * std).tolist()]


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
        "views": settings.views,
    }


def _concentrations(model: Any) -> list[list[float]]:
    """Of q(tau|r), (R, T)."""
    from keras import ops

    raw = ops.softplus(model.preference.concentration)
    return ops.convert_to_numpy(ops.maximum(raw, LEAST_CONCENTRATION)).tolist()


def training(run: Run, model: Any) -> dict[str, Any]:
    """Data and settings of the training; of paths only the last part, of findings the number."""
    data, settings = dict(run.section("data")), run.section("train")
    data["source"] = _source_name(run, data)
    for name in ("split", "notes"):
        run.checked(name, data.setdefault(name, {}))
    # Findings name files, and so patients: no affair of whoever asks a server.
    data["notes"] = {k: len(v) if k == "findings" else v for k, v in data["notes"].items()}
    data["rater_order"] = run.rater_order
    return {
        "steps": model.steps_done,
        "encoder_weights": model.settings.encoder_start,
        "data": data,
        "settings": {k: v for k, v in settings.items() if k != "dicom"},
    }


def _source_name(run: Run, data: dict[str, Any]) -> str:
    if card_of(run):
        return f"what {SHIPPED_CARD} names"
    source = data.get("source") or run.origin.get("source")
    return Path(source).name if source else "arrays"


def metrics(run: Run) -> dict[str, Any] | None:
    """The run's metrics.json; None for a run that was stopped before it was scored.

    Raises:
        ProSegError: it holds something else.
    """
    file = run.path / "metrics.json"
    if not file.is_file():
        return None
    found = read_json(file)
    if not (isinstance(found, dict) and "ged" in found and all(map(_is_score, found.items()))):
        raise ProSegError(f"{file} must hold the metrics of a run. Received: something else")
    return without_nan(found)


def _is_score(item: tuple[str, Any]) -> bool:
    name, value = item
    if name in ("images", "split", "source"):
        return isinstance(value, str)
    values = value if isinstance(value, list) else [value]
    return all(v is None or isinstance(v, (int, float)) for v in values)

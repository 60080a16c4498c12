"""One optimizer of several: for kernels, the rater layers, a trained encoder, and the rest."""

import math
from typing import Any

import keras

from keras_proseg.config import TrainConfig
from keras_proseg.layers.backbone import FIRST
from keras_proseg.layers.efficientnet import PREFIX
from keras_proseg.muon import NEWTON_SCHULZ_STEPS, KernelMuon
from keras_proseg.plan import Plan
from keras_proseg.trainers import Adam

KERNEL_NAME = "kernel_muon"
# Of hidden layers only, which Muon is made for: the first kernel reads pixels.
KERNELS = rf".*/backbone/(?!{PREFIX}|{FIRST}).*conv2d[^/]*/kernel"
PREFERENCE_NAME = "preference_adam"
PREFERENCE = r".+/(preference|rater_classifier)/.*"  # whatever the model is called
ENCODER_NAME = "encoder_adam"
ENCODER = rf".*/{PREFIX}[^/]*/.*"
# A model saved by TensorFlow names its own Adam; the others read it as Keras'.
keras.saving.get_custom_objects()["keras_proseg>Adam"] = Adam


def make_optimizer(config: TrainConfig | None = None, trained_encoder: bool = False) -> Any:
    """Muon or AdamW (Adam at weight decay 0) at the constant rates of `config`.

    Args:
        config: optimizer, rates, decay and clipping.
        trained_encoder: give the encoder, which starts with trained weights, a rate of its own.
    """
    config = config or TrainConfig()
    network = _adam("network_adam", config, config.learning_rate, config.weight_decay)
    preference = _adam(PREFERENCE_NAME, config, config.preference_learning_rate, 0.0)
    rules = {PREFERENCE: preference}
    if config.optimizer == "muon":
        rules[KERNELS] = _muon(config)
    if trained_encoder:
        rate = config.encoder_learning_rate
        rules[ENCODER] = _adam(ENCODER_NAME, config, rate, config.weight_decay)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(network, rules))


def for_any_backend(saved: Any) -> Any:
    """A saved optimizer whose parts are Keras' own.

    PyTorch's are saved by where Keras keeps them for it, which no other backend can import.
    """
    if isinstance(saved, (list, tuple)):
        return [for_any_backend(each) for each in saved]
    if not isinstance(saved, dict):
        return saved
    changed = {name: for_any_backend(each) for name, each in saved.items()}
    if str(saved.get("module")).startswith("keras.src.backend."):
        changed |= {"module": "keras.optimizers", "registered_name": None}
    return changed


def set_rates(optimizer: Any, config: TrainConfig, factor: float = 1.0) -> None:
    """Sets every rate of an optimizer of `make_optimizer` to its peak times `factor`."""
    peaks = {
        PREFERENCE_NAME: config.preference_learning_rate,
        ENCODER_NAME: config.encoder_learning_rate,
    }
    for part in optimizer.optimizers:
        part.learning_rate = peaks.get(part.name, config.learning_rate) * factor


class WarmupCosine(keras.callbacks.Callback):
    """Sets all rates before each step, as a function of step and plan (so a resumed run agrees).

    Args:
        config: peak rates and warm-up.
        plan: the plan of the run; None keeps the peak.
        first_step: steps done before this `fit`.
    """

    def __init__(self, config: TrainConfig, plan: Plan | None, first_step: int) -> None:
        super().__init__()
        self.config, self.plan, self.step = config, plan, first_step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Scales the peaks by warm-up times cosine."""
        self.model.sync_state()
        progress = self.plan.progress_at(self.step) if self.plan else 0.0
        factor = rate_factor(self.step, progress, self.config.warmup)
        set_rates(self.model.optimizer, self.config, factor)
        self.step += 1


def rate_factor(step: int, progress: float, warmup: int) -> float:
    """Between 0 and 1: linear over `warmup` steps, and a cosine from progress 0 to 1."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * (1 + math.cos(math.pi * progress)) / 2


def _muon(config: TrainConfig) -> KernelMuon:
    return KernelMuon(
        name=KERNEL_NAME,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip or None,
        ns_steps=NEWTON_SCHULZ_STEPS,
    )


def _adam(name: str, config: TrainConfig, rate: float, decay: float) -> Any:
    return Adam(
        name=name,
        learning_rate=rate,
        weight_decay=decay or None,
        global_clipnorm=config.clip or None,
    )

"""Two learning rates in one optimizer: the network's, and the rater embedding's and classifier's."""

from typing import Any

import keras

from keras_proseg.config import TrainConfig

PREFERENCE = r".*(preference|rater_classifier)/.*"


def make_optimizer(config: TrainConfig | None = None, steps: int | None = None) -> Any:
    """AdamW (Adam at weight decay 0) with warm-up and cosine decay over `steps`.

    Args:
        config: rates, decay, clipping; the defaults of `TrainConfig` when absent.
        steps: planned steps; None keeps the rates constant.
    """
    config = config or TrainConfig()
    network = _adam(config, config.learning_rate, config.weight_decay, steps)
    preference = _adam(config, config.preference_learning_rate, 0.0, steps)
    choice = keras.optimizers.OptimizerMap(network, {PREFERENCE: preference})
    return keras.optimizers.MultiOptimizer(choice)


def _adam(config: TrainConfig, rate: float, decay: float, steps: int | None) -> Any:
    schedule: Any = rate
    if steps is not None:
        warmup = min(int(config.warmup * steps), steps - 1)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    options = {"learning_rate": schedule, "global_clipnorm": config.clip}
    if decay:
        return keras.optimizers.AdamW(weight_decay=decay, **options)
    return keras.optimizers.Adam(**options)

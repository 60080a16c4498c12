"""A run as a SavedModel that needs neither this package nor TensorFlow Probability."""

from pathlib import Path
from typing import Any

from keras_proseg.errors import UsageError
from keras_proseg.files import atomic_folder
from keras_proseg.pretrained import load


def export_saved_model(run: str | Path, out: str | Path, num_samples: int = 16) -> Path:
    """Writes `out/1/saved_model.pb`, dynamic in batch, height and width; raw pixels go in.

    Signatures: `serving_default(image (B, H, W, C) float32)` gives `probability` (B, H, W, K), the
    mean over raters, and the maps `total`, `between_rater`, `boundary`. `sample(image, rater (B,)
    int32, seed (B,) int32)` gives `samples` (B, S, H, W, K): each image has its own seed, so its
    samples do not depend on its batch; rater -1 draws raters; any other unknown rater is an error.

    Args:
        run: a run directory.
        out: folder of the model; version 1 must not exist yet.
        num_samples: S of the signature `sample`.

    Returns:
        The folder of the version.

    Raises:
        UsageError: the version exists, or Keras runs another backend than TensorFlow.
        ProSegError: no run, or a damaged one.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UsageError(f"A SavedModel needs KERAS_BACKEND=tensorflow. Received: {backend}")
    import tensorflow as tf
    from keras.export import ExportArchive

    folder = Path(out) / "1"
    if folder.exists():
        raise UsageError(f"`--out` must not hold version 1 yet. Received: {folder}")
    model = load(run)
    channels = model.settings.image_channels
    image = tf.TensorSpec((None, None, None, channels), tf.float32, name="image")
    rater = tf.TensorSpec((None,), tf.int32, name="rater")
    seed = tf.TensorSpec((None,), tf.int32, name="seed")
    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", _mean_signature(model), [image])
    archive.add_endpoint("sample", _sample_signature(model, num_samples), [image, rater, seed])
    with atomic_folder(folder) as temporary:
        archive.write_out(temporary, verbose=False)
    return folder


def _mean_signature(model: Any) -> Any:
    import tensorflow as tf

    def serving_default(image: Any) -> dict[str, Any]:
        mean, variance = model.rater_moments(image)
        between = tf.math.reduce_variance(mean, axis=1)
        boundary = tf.reduce_mean(variance, axis=1)
        return {
            "probability": tf.reduce_mean(mean, axis=1),
            "total": between + boundary,
            "between_rater": between,
            "boundary": boundary,
        }

    return serving_default


def _sample_signature(model: Any, num_samples: int) -> Any:
    import tensorflow as tf

    num_raters = len(model.raters)

    def one(arguments: Any) -> Any:
        image, rater, seed = arguments
        known = tf.debugging.Assert(
            (rater >= -1) & (rater < num_raters), ["rater must be -1 or an index", rater]
        )
        with tf.control_dependencies([known]):
            order = tf.argsort(tf.random.stateless_uniform((num_raters,), [seed, 2]))
            turns = tf.argsort(tf.random.stateless_uniform((num_samples,), [seed, 3]))
            anyone = tf.gather(order, turns % num_raters)
            ids = tf.where(rater < 0, anyone, tf.fill((num_samples,), rater))
        draws = model.preference.q_tau().sample(num_samples, tf.stack([seed, 0]))
        tau = tf.gather(draws, ids, axis=1, batch_dims=1)
        key = tf.stack([seed, 1])
        return model.draw(image[None], ids, tau[None], key, 1.0)[0]

    def sample(image: Any, rater: Any, seed: Any) -> dict[str, Any]:
        spec = tf.TensorSpec((num_samples, None, None, model.settings.num_classes), tf.float32)
        samples = tf.map_fn(
            one, (tf.cast(image, tf.float32), rater, seed), fn_output_signature=spec
        )
        return {"samples": samples}

    return sample

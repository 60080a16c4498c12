"""The signatures that a server offers: their inputs, and what is refused."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from keras_proseg.data.records import LARGEST, USABLE
from keras_proseg.export.answers import Answers
from keras_proseg.export.graphs import concrete


def make_signatures(model: Any, num_samples: int, metadata: dict[str, Any]) -> dict[str, Any]:
    """Every signature by its name, a concrete function.

    Args:
        model: a `ProSeg`.
        num_samples: S.
        metadata: plain JSON values under their names.
    """
    channels = model.settings.image_channels
    image = tf.TensorSpec((None, None, None, channels), tf.float32, name="image")
    rater, name, seed, query = (
        tf.TensorSpec((None,), dtype, name=spec)
        for spec, dtype in (
            ("rater", tf.int32), ("rater", tf.string), ("seed", tf.int32), ("query", tf.string)
        )
    )  # fmt: skip

    checked = partial(_checked, channels)
    answers = Answers(model, num_samples)
    # Graphs of their own, which the signatures by index and by name share.
    mean_of = concrete(answers.mean_of, [image, rater])
    samples = concrete(answers.samples, [image, rater, seed])

    def index(rater: Any) -> tf.Tensor:
        return _known_index(rater, len(model.raters))

    def named(rater: Any) -> tf.Tensor:
        return _index_of_name(rater, model.raters)

    def serving_default(image: Any) -> dict[str, Any]:
        return answers.maps(checked(image))

    def predict_rater(image: Any, rater: Any) -> dict[str, Any]:
        return {"probability": mean_of(checked(image, rater), index(rater))}

    def predict_rater_by_name(image: Any, rater: Any) -> dict[str, Any]:
        return {"probability": mean_of(checked(image, rater), named(rater))}

    def sample(image: Any, rater: Any, seed: Any) -> dict[str, Any]:
        return {"samples": samples(checked(image, rater, seed), index(rater), seed)}

    def sample_by_name(image: Any, rater: Any, seed: Any) -> dict[str, Any]:
        return {"samples": samples(checked(image, rater, seed), named(rater), seed)}

    def describe(query: Any) -> dict[str, Any]:
        return {"json": _look_up(query, metadata)}

    signatures: dict[str, tuple[Callable[..., Any], list[Any]]] = {
        "serving_default": (serving_default, [image]),
        "predict_rater": (predict_rater, [image, rater]),
        "predict_rater_by_name": (predict_rater_by_name, [image, name]),
        "sample": (sample, [image, rater, seed]),
        "sample_by_name": (sample_by_name, [image, name, seed]),
        "metadata": (describe, [query]),
    }
    return {key: concrete(function, specs) for key, (function, specs) in signatures.items()}


def _checked(channels: int, image: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    size = tf.shape(image)
    # Of all numbers there are: the last axis is declared, and so taken as given by who optimises.
    whole = tf.equal(tf.size(image), tf.reduce_prod(size[:3]) * channels)
    checks = [
        tf.debugging.Assert(whole, [f"image must have {channels} channels", tf.size(image), size]),
        tf.debugging.Assert(tf.reduce_all(size[1:3] > 0), ["image must have pixels", size]),
        tf.debugging.Assert(
            tf.reduce_all(tf.abs(image) < LARGEST), [f"image must be {USABLE}", size]
        ),
    ]
    for other in others:
        same = tf.equal(size[0], tf.shape(other)[0])
        text = "rater and seed must be as many as images"
        checks.append(tf.debugging.Assert(same, [text, size[0], tf.shape(other)[0]]))
    with tf.control_dependencies(checks):
        return tf.identity(image)


def _known_index(rater: tf.Tensor, count: int) -> tf.Tensor:
    known = tf.reduce_all((rater >= -1) & (rater < count))
    text = f"rater must be -1 or an index from 0 to {count - 1}"
    with tf.control_dependencies([tf.debugging.Assert(known, [text, rater])]):
        return tf.identity(rater)


def _index_of_name(rater: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """Index of each name (B,); "" is -1."""
    text = f'rater must be "" or one of {", ".join(names)}'
    return _position(rater, ["", *names], text) - 1


def _look_up(query: tf.Tensor, metadata: dict[str, Any]) -> tf.Tensor:
    """JSON (B,) under each name (B,); "" is all of it."""
    values = [json.dumps(value) for value in (metadata, *metadata.values())]
    text = f'query must be "" or one of {", ".join(metadata)}'
    return tf.gather(tf.constant(values), _position(query, ["", *metadata], text))


def _position(words: tf.Tensor, known: Sequence[str], text: str) -> tf.Tensor:
    same = tf.equal(words[:, None], tf.constant(known)[None])
    good = tf.reduce_all(tf.reduce_any(same, axis=1))
    with tf.control_dependencies([tf.debugging.Assert(good, [text, words])]):
        return tf.argmax(tf.cast(same, tf.int32), axis=1, output_type=tf.int32)

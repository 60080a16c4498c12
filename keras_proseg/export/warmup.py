"""Requests that TensorFlow Serving plays to itself before a version goes into service."""

from pathlib import Path
from typing import Any

import tensorflow as tf

WARMUP = "assets.extra/tf_serving_warmup_requests"


def write_warmup(folder: Path, name: str, shape: tuple[int, int, int], raters: list[str]) -> None:
    """Writes one request per signature, for one image of `shape` (H, W, C)."""
    file = folder / WARMUP
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in requests(shape, raters).items():
            writer.write(_log(name, signature, inputs).SerializeToString())


def requests(shape: tuple[int, int, int], raters: list[str]) -> dict[str, dict[str, Any]]:
    """Inputs by signature."""
    image, seed = tf.zeros((1, *shape)), tf.zeros(1, tf.int32)
    index, rater = tf.fill((1,), -1), tf.constant(raters[:1])
    return {
        "serving_default": {"image": image},
        "predict_rater": {"image": image, "rater": index},
        "predict_rater_by_name": {"image": image, "rater": rater},
        "sample": {"image": image, "rater": index, "seed": seed},
        "sample_by_name": {"image": image, "rater": rater, "seed": seed},
        "metadata": {"query": tf.constant([""])},
    }


def _log(name: str, signature: str, inputs: dict[str, Any]) -> Any:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )

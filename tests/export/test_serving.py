"""The published clients against a server: the stand-in, and a real one where there is one."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from stand_in import StandIn
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
)  # fmt: skip

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
REAL = os.environ.get("TF_MODEL_SERVER")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def free_port():
    with socket.create_server(("localhost", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module", params=["stand-in", "real"])
def server(request, exported):
    """Addresses of a server; `own` says whether it serves the export of these tests."""
    if request.param == "stand-in":
        stand_in = StandIn(exported.parent)
        yield stand_in
        stand_in.stop()
    elif not REAL:
        pytest.skip("TF_MODEL_SERVER names neither a tensorflow_model_server nor a host:port")
    elif Path(REAL).is_file():
        yield from started(exported.parent)
    else:
        yield SimpleNamespace(grpc=REAL, rest=os.environ.get("TF_MODEL_SERVER_REST"), own=False)


def started(base):
    """A real server of `base`, as compose.yaml starts it."""
    ports = free_port(), free_port()
    config = (base / "models.config").read_text().replace("/models/proseg", str(base))
    (base / "here.config").write_text(config)
    command = [
        REAL, f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--enable_batching=true",
        f"--model_config_file={base / 'here.config'}",
        f"--batching_parameters_file={base / 'batching_parameters.txt'}",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        addresses = (f"localhost:{port}" for port in ports)
        yield SimpleNamespace(**dict(zip(("grpc", "rest"), addresses, strict=True)), own=True)
        process.terminate()


@pytest.fixture(scope="module")
def client(server):
    """The names that the page's Python client leaves behind, after it ran as pasted."""
    wait_until_available(server.grpc)
    (code,) = blocks("python")
    names = {}
    exec(code.replace("localhost:8500", server.grpc), names)
    yield SimpleNamespace(**names)
    names["channel"].close()


def wait_until_available(address):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "proseg"
    with grpc.insecure_channel(address) as channel:
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        for _ in range(120):
            try:
                status = service.GetModelStatus(request, 5, wait_for_ready=True)
                if status.model_version_status[0].state == 30:
                    return
            except grpc.RpcError:
                pass
            time.sleep(0.5)
    raise AssertionError(f"no model proseg at {address}")


def test_the_python_client_works_as_pasted(client, server, served, images):
    assert client.masks.ndim == 5
    answer = client.call("serving_default", image=images)
    total = answer["between_rater"] + answer["boundary"]
    np.testing.assert_allclose(answer["total"], total, atol=1e-6)
    if not server.own:
        return
    assert client.raters == ["ann", "bob", "cy"]
    for name, value in served["serving_default"](image=tf.constant(images)).items():
        np.testing.assert_allclose(answer[name], value, atol=1e-5)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_curl_clients_work_as_pasted(server, client, served):
    if not server.rest:
        pytest.skip("TF_MODEL_SERVER_REST names no host:port")
    answers = []
    for code in blocks("sh"):
        code = code.replace("localhost:8501", server.rest)
        done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout)["predictions"])
    assert json.loads(answers[0][0]) == client.raters
    if not server.own:
        return
    image = tf.constant([[[[0.0], [40.0]], [[40.0], [0.0]]]])
    expected = served["sample_by_name"](
        image=image, rater=tf.constant([""]), seed=tf.constant([1])
    )["samples"]
    np.testing.assert_allclose(answers[1], expected, atol=1e-5)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_rest_says_what_is_wrong(server):
    if not isinstance(server, StandIn):
        pytest.skip("the real server has words of its own")
    url = f"http://{server.rest}/v1/models"
    for path, data, words in (
        ("/other:predict", '{"instances": [[1]]}', "not found"),
        ("/proseg:train", "{}", "Malformed"),
        ("/proseg:predict", '{"signature_name": "metadata", "instances": ["x"]}', "raters"),
    ):
        command = ["curl", "-s", url + path, "-d", data]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert words in json.loads(done.stdout)["error"]
    done = subprocess.run(["curl", "-s", f"{url}/proseg"], capture_output=True, check=True)
    assert json.loads(done.stdout)["model_version_status"][0]["state"] == "AVAILABLE"


SMALL = np.zeros((1, 16, 16, 1), "float32")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"model": "other", "signature": "serving_default", "image": SMALL}, "NOT_FOUND"),
        ({"signature": "predict", "image": SMALL}, "FAILED_PRECONDITION"),
        ({"signature": "serving_default", "image": SMALL[..., [0, 0, 0]]}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "image": SMALL.astype("float64")}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "image": SMALL.astype("uint8")}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "image": SMALL[0]}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "image": SMALL[..., 0]}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "picture": SMALL}, "INVALID_ARGUMENT"),
        ({"signature": "serving_default", "image": SMALL * np.nan}, "INVALID_ARGUMENT"),
        ({"signature": "predict_rater", "image": SMALL, "rater": [9]}, "INVALID_ARGUMENT"),
        (
            {"signature": "predict_rater_by_name", "image": SMALL, "rater": ["zoe"]},
            "INVALID_ARGUMENT",
        ),
        ({"signature": "metadata", "query": ["weather"]}, "INVALID_ARGUMENT"),
    ],
)
def test_mistakes_are_refused_and_the_server_goes_on(client, call, code):
    call = dict(call)
    with pytest.raises(grpc.RpcError) as caught:
        client.call(call.pop("signature"), **call)
    assert caught.value.code() is grpc.StatusCode[code], caught.value.details()
    assert client.call("serving_default", image=SMALL)["total"].shape == SMALL.shape


def test_an_empty_batch_is_an_empty_answer(client):
    assert client.call("serving_default", image=SMALL[:0])["total"].shape == (0, 16, 16, 1)


def test_a_large_image_in_one_call(client):
    image = np.zeros((1, 2048, 2048, 1), "float32")
    image[:, 900:1100, 900:1100] = 100
    answer = client.call("serving_default", image=image)
    assert answer["probability"].shape == image.shape
    assert np.isfinite(answer["total"]).all()


def test_64_calls_from_8_threads_are_answered_as_alone(client, server):
    rng = np.random.default_rng(1)
    images = rng.normal(30, 40, (64, 1, 24, 24, 1)).astype("float32")

    def sample(k):
        inputs = {"rater": np.int32([k % 3 - 1]), "seed": np.int32([k])}
        return client.call("sample", image=images[k], **inputs)["samples"]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(sample, range(64)))
    for k in (0, 1, 2, 3, 62, 63):
        np.testing.assert_allclose(answers[k], sample(k), atol=1e-5)
    if isinstance(server, StandIn):
        merged = server.models["proseg"].batchers["sample"].merged
        assert max(merged) > 1


def test_merged_sizes_and_too_large_calls_are_refused(client, server):
    if not isinstance(server, StandIn):
        pytest.skip("when calls meet is the real server's affair")
    batcher = server.models["proseg"].batchers["serving_default"]
    batcher.seconds = 5.0
    batcher.max_rows = 2

    def size(side):
        try:
            image = np.zeros((1, side, side, 1), "float32")
            return client.call("serving_default", image=image)["total"].shape[1]
        except grpc.RpcError as error:
            return error.details()

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(size, (16, 24)))
    assert all("padding is turned off" in answer for answer in answers)
    with pytest.raises(grpc.RpcError, match="larger than maximum"):
        client.call("serving_default", image=np.repeat(SMALL, 3, axis=0))


def test_the_server_tells_its_signatures(client, server, served):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "proseg"
    with grpc.insecure_channel(server.grpc) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = service.GetModelMetadata(request, 30)
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    assert set(served) <= set(found.signature_def)
    for name in served:
        for given in found.signature_def[name].inputs.values():
            assert given.tensor_shape.dim[0].size == -1

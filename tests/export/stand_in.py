"""A stand-in for tensorflow_model_server: its gRPC services and REST paths, in Python.

What it shares with the real one: the official stubs, models.config, the newest version of a
folder, one queue per signature whose concurrent calls are merged into a batch, the refusal to merge
images of different sizes, the codes of errors. What it does not share is everything else.
"""

import json
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)  # fmt: skip
from tensorflow_serving.config import model_server_config_pb2

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNMET = grpc.StatusCode.FAILED_PRECONDITION
CODES = {code.value[0]: code for code in grpc.StatusCode}
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Batcher:
    """One signature's queue; its own thread merges what waits there."""

    def __init__(self, function, max_rows, seconds):
        self.function, self.max_rows, self.seconds = function, max_rows, seconds
        self.queue, self.merged = Queue(), []
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, inputs):
        rows = len(next(iter(inputs.values())))
        if rows > self.max_rows:
            text = f"Task size {rows} is larger than maximum input batch size {self.max_rows}"
            raise Refused(INVALID, text)
        answer = Future()
        self.queue.put((inputs, rows, answer))
        return answer.result()

    def _serve(self):
        held = None
        while True:
            tasks, held = self._collect(held or self.queue.get())
            answers = [answer for _, _, answer in tasks]
            try:
                for answer, part in zip(answers, self._run(tasks), strict=True):
                    answer.set_result(part)
            except Exception as error:
                for answer in answers:
                    answer.set_exception(error)

    def _collect(self, first):
        tasks, rows, end = [first], first[1], time.monotonic() + self.seconds
        while rows < self.max_rows and (left := end - time.monotonic()) > 0:
            try:
                task = self.queue.get(timeout=left)
            except Empty:
                break
            if rows + task[1] > self.max_rows:
                return tasks, task
            tasks.append(task)
            rows += task[1]
        return tasks, None

    def _run(self, tasks):
        for name in tasks[0][0]:
            if len({inputs[name].shape[1:] for inputs, _, _ in tasks}) > 1:
                text = f"Tensors with name '{name}' from different tasks have different shapes"
                raise Refused(INVALID, f"{text} and padding is turned off.")
        merged = {k: np.concatenate([task[0][k] for task in tasks]) for k in tasks[0][0]}
        self.merged.append(len(tasks))
        answers = self.function(**{k: tf.constant(v) for k, v in merged.items()})
        ends = np.cumsum([rows for _, rows, _ in tasks])
        parts = {k: np.split(v.numpy(), ends[:-1]) for k, v in answers.items()}
        return [{k: v[i] for k, v in parts.items()} for i in range(len(tasks))]


class Servable:
    """The newest version of one model."""

    def __init__(self, base, batching):
        self.version = max(int(p.name) for p in Path(base).iterdir() if p.name.isdecimal())
        folder = Path(base) / str(self.version)
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions = content.meta_graphs[0].signature_def
        self.loaded = tf.saved_model.load(folder)
        self.batchers = {k: Batcher(f, *batching) for k, f in self.loaded.signatures.items()}

    def predict(self, signature, inputs):
        if signature not in self.batchers:
            raise Refused(UNMET, f'Serving signature key "{signature}" not found.')
        wanted = self.definitions[signature].inputs
        if set(wanted) != set(inputs):
            raise Refused(INVALID, f"inputs must be {sorted(wanted)}, not {sorted(inputs)}")
        for name, info in wanted.items():
            self._check(name, info, inputs[name])
        return self.batchers[signature](inputs)

    @staticmethod
    def _check(name, info, value):  # of types only: the server looks at no shape
        if tf.as_dtype(value.dtype) != tf.as_dtype(info.dtype):
            raise Refused(INVALID, f"{name} must be {tf.as_dtype(info.dtype).name}")


class StandIn(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves what models.config in `base` names, from `base`; port 0 is a free one."""

    own = True

    def __init__(self, base, grpc_port=0, rest_port=0):
        config = model_server_config_pb2.ModelServerConfig()
        text_format.Parse((base / "models.config").read_text(), config)
        text = (base / "batching_parameters.txt").read_text()
        given = dict(re.findall(r"(\w+) \{ value: (\d+) \}", text))
        batching = (int(given["max_batch_size"]), int(given["batch_timeout_micros"]) / 1e6)
        self.models = {
            model.name: Servable(base, batching) for model in config.model_config_list.config
        }
        self.server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self.server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(self), self.server)
        self.grpc = f"localhost:{self.server.add_insecure_port(f'localhost:{grpc_port}')}"
        self.server.start()
        self.http = ThreadingHTTPServer(("localhost", rest_port), rest_handler(self))
        self.rest = f"localhost:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.server.stop(None).wait()
        self.http.shutdown()
        self.http.server_close()

    def model(self, name):
        if name not in self.models:
            raise Refused(MISSING, f"Servable not found for request: Latest({name})")
        return self.models[name]

    def answer(self, name, signature, inputs):
        """The outputs as arrays; every error as `Refused`."""
        try:
            return self.model(name).predict(signature or "serving_default", inputs)
        except tf.errors.OpError as error:
            raise Refused(CODES[error.error_code], error.message) from error

    def Predict(self, request, context):
        spec = request.model_spec
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        try:
            outputs = self.answer(spec.name, spec.signature_name, inputs)
        except Refused as error:
            context.abort(error.code, str(error))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.CopyFrom(spec)
        answer.model_spec.version.value = self.models[spec.name].version
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer

    def GetModelMetadata(self, request, context):
        try:
            model = self.model(request.model_spec.name)
        except Refused as error:
            context.abort(error.code, str(error))
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in model.definitions.items():
            found.signature_def[name].CopyFrom(definition)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = model.version
        answer.metadata["signature_def"].Pack(found)
        return answer


class Status(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, stand_in):
        self.stand_in = stand_in

    def GetModelStatus(self, request, context):
        try:
            return self.of(request.model_spec.name)
        except Refused as error:
            context.abort(error.code, str(error))

    def of(self, name):
        answer = get_model_status_pb2.GetModelStatusResponse()
        available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
        answer.model_version_status.add(version=self.stand_in.model(name).version, state=available)
        return answer


def as_json(value):
    return [text.decode() for text in value] if value.dtype == object else value.tolist()


def rest_handler(stand_in):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self._answer(r"/v1/models/(\w+)$", lambda name: self._status(name))

        def do_POST(self):
            self._answer(r"/v1/models/(\w+):predict$", lambda name: self._predict(name))

        def _status(self, name):
            return json_format.MessageToDict(
                Status(stand_in).of(name), preserving_proto_field_name=True
            )

        def _predict(self, name):
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature = given.get("signature_name", "serving_default")
            wanted = stand_in.model(name).definitions[signature].inputs
            rows = given["instances"]
            if len(wanted) == 1 and not isinstance(rows[0], dict):
                rows = [{next(iter(wanted)): row} for row in rows]
            inputs = {
                k: np.array([row[k] for row in rows], tf.as_dtype(v.dtype).as_numpy_dtype)
                for k, v in wanted.items()
            }
            outputs = stand_in.answer(name, signature, inputs)
            plain = {k: as_json(v) for k, v in outputs.items()}
            if len(plain) == 1:
                return {"predictions": next(iter(plain.values()))}
            return {"predictions": [{k: v[i] for k, v in plain.items()} for i in range(len(rows))]}

        def _answer(self, pattern, work):
            found = re.match(pattern, self.path)
            try:
                if not found:
                    raise Refused(MISSING, f"Malformed request: {self.command} {self.path}")
                code, answer = 200, work(found[1])
            except Refused as error:
                code, answer = (404 if error.code is MISSING else 400), {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler

"""What TensorFlow Serving is started with: written once beside the versions, kept afterwards."""

import re
from pathlib import Path

from keras_proseg.errors import UsageError
from keras_proseg.files import atomic_file

MODELS_CONFIG = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""
# Merging pads nothing: padded images would be answered otherwise than alone.
BATCHING_PARAMETERS = """\
max_batch_size { value: 8 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: false
"""
COMPOSE = """\
# docker compose up: gRPC on 8500, REST on 8501, of this machine only.
services:
  "{service}":
    image: tensorflow/serving:${{TF_SERVING_TAG:-latest}}
    ports:
      - "127.0.0.1:8500:8500"
      - "127.0.0.1:8501:8501"
    volumes:
      - ".:/models/{name}:ro"
    command:
      - "--model_config_file=/models/{name}/models.config"
      - "--enable_batching=true"
      - "--batching_parameters_file=/models/{name}/batching_parameters.txt"
    restart: unless-stopped
"""


def write_serving_files(base: str | Path) -> None:
    """Writes models.config, batching_parameters.txt and compose.yaml where they are absent.

    Args:
        base: the folder of the versions; its name is the model's name.
    """
    base = Path(base)
    name = model_name(base)
    service = "".join(c if c.isalnum() else "-" for c in name.lower())
    files = {
        "models.config": MODELS_CONFIG.format(name=name),
        "batching_parameters.txt": BATCHING_PARAMETERS,
        "compose.yaml": COMPOSE.format(name=name, service=service),
    }
    for file, text in files.items():
        if not (base / file).exists():
            with atomic_file(base / file) as temporary:
                temporary.write_text(text, encoding="utf-8")


def model_name(base: str | Path) -> str:
    """The name under which a server knows the model in `base`: the folder's.

    Raises:
        UsageError: a name that does not go into an address.
    """
    name = Path(base).resolve().name
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        text = "`--out` must end in a name of letters, digits, dots, dashes and underscores."
        raise UsageError(f"{text} Received: {name!r}")
    return name

"""Other programs that run a model, for benchmarks: a model in, what runs it out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.comparison import Run
from hornet_train.export.export_wanted import FORMATS, Export
from hornet_train.export.onnx_file import write_onnx
from hornet_train.export.openvino_file import open_openvino, write_openvino
from hornet_train.export.plain_graph import plain_graph
from hornet_train.run.onnx_model import OnnxModel

NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def check_runtimes(names: tuple[str, ...]) -> None:
    """Raises ConfigError where a package is missing."""
    faults = []
    for name in names:
        missing = [one for one in FORMATS[name].packages if find_spec(one) is None]
        if missing:
            extra = f"pip install 'hornet-train[{FORMATS[name].extra}]'"
            faults.append(f"runtimes={name} needs {', '.join(missing)}: {extra}")
    if faults:
        raise ConfigError(faults)


def runtime(name: str) -> Callable[[nn.Module, Tensor], Run]:
    """What makes of a model in evaluation mode, and images, that model in a runtime of `NAMES`.

    It is in float32, for images of that size, in as many threads as torch has.
    """

    def made(model: nn.Module, images: Tensor) -> Run:
        plain = plain_graph(model, images)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            write_onnx(
                plain,
                images.contiguous(),
                file,
                output="logits",
                dense=False,
                opset=Export.opset,
                any_size=False,
                texts={},
            )
            if name == "onnx":
                return OnnxModel(file)
            write_openvino(file, file.with_suffix(".xml"), {})
            return open_openvino(file.with_suffix(".xml"))

    return made

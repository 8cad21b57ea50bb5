"""OpenVINO's IR: an .xml with the graph, and a .bin with the weights. Made from ONNX: its other converter may
send reports over the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornet_train.export.comparison import Run


def write_openvino(onnx: Path, path: Path, texts: Mapping[str, str]) -> None:
    """Write the model of an ONNX file. The .bin lies beside the .xml.

    Args:
        onnx: is removed.
        path: of the .xml.
        texts: kept in the file, key -> text.
    """
    import openvino

    made: Any = openvino.Core().read_model(str(onnx))
    for key, text in texts.items():
        made.set_rt_info(text, [key])
    openvino.save_model(made, str(path), compress_to_fp16=False)
    onnx.unlink()


def open_openvino(path: Path) -> Run:
    """A file, ready to run on the CPU in float32: OpenVINO's own default is bfloat16 where the CPU has it."""
    import openvino

    threads = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled: Any = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(images: Tensor) -> Tensor:
        found: np.ndarray[Any, Any] = compiled(images.contiguous().numpy())[0]
        return torch.from_numpy(found.copy())

    return run

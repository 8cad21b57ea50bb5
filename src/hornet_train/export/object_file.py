"""Detectors in ONNX, with the suppression of overlapping boxes inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.onnx_file import clean
from hornet_train.models.spec import MODEL_ERRORS, first_line
from hornet_train.run.onnx_detector import PICTURE
from hornet_train.run.onnx_model import INPUT
from hornet_train.tasks.predictor_types import ObjectGraph


def write_detector(
    model: nn.Module,
    graph: ObjectGraph,
    image: Tensor,
    path: Path,
    *,
    opset: int,
    texts: Mapping[str, str],
) -> None:
    """Write a detector of one image at a time.

    By a trace: torch's newer exporter asks for the number of boxes beforehand, which nobody knows.

    Args:
        model: see `ObjectGraph.plain`; in evaluation mode, with no complex numbers in it.
        graph: what it takes and gives.
        image: an example, (1, C, H, W).
        path: of the file.
        opset: version of the operators.
        texts: kept in the file, key -> text.

    Raises:
        ConfigError: the model cannot be written so.
    """
    import onnx

    picture = torch.tensor(image.shape[2:], dtype=torch.float32)
    sides = {INPUT: {2: "height", 3: "width"}} if graph.size is None else {}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that the exporter is deprecated, and that traces are traces
            torch.onnx.export(
                model,
                (image, picture),
                path,
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT, PICTURE],
                output_names=list(graph.outputs),
                dynamic_axes={**sides, **{name: {0: "objects"} for name in graph.outputs}},
            )
    except MODEL_ERRORS as error:
        raise ConfigError([f"this detector cannot be written as ONNX ({first_line(error)})"]) from error
    proto = onnx.load(path)
    clean(proto)
    onnx.helper.set_model_props(proto, dict(texts))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())

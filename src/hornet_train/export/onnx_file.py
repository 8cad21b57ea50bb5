"""ONNX: written by torch's exporter, kept small and clean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.plain_graph import example_of, free_dimensions
from hornet_train.models.spec import MODEL_ERRORS, first_line
from hornet_train.run.onnx_model import INPUT, Floats

_QUANTIZED = ["Conv", "MatMul", "Gemm"]


def write_onnx(
    model: nn.Module,
    images: Tensor,
    path: Path,
    *,
    output: str,
    dense: bool,
    opset: int,
    any_size: bool,
    texts: Mapping[str, str],
) -> None:
    """Write a model of images (B, C, H, W), for any B.

    Args:
        model: in evaluation mode, with no complex numbers in it.
        images: an example.
        path: of the file.
        output: name of the output.
        dense: whether the output has the images' height and width.
        opset: version of the operators.
        any_size: whether height and width may be others than the example's.
        texts: kept in the file, key -> text.

    Raises:
        ConfigError: the model cannot be written so.
    """
    import onnx

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                model,
                (example_of(images),),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[output],
                dynamic_shapes=free_dimensions(any_size=any_size),
                verbose=False,
            )
    except MODEL_ERRORS as error:
        raise ConfigError([f"this model cannot be written as ONNX ({first_line(error)})"]) from error
    assert program is not None
    proto = program.model_proto
    clean(proto)
    _name_dimensions(proto, output, any_size=any_size, dense=dense)
    onnx.helper.set_model_props(proto, dict(texts))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def clean(proto: Any) -> None:
    """Leave out what names files of this machine."""
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in nodes:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    proto.graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")


def _name_dimensions(proto: Any, output: str, *, any_size: bool, dense: bool) -> None:
    """Give dimensions the names that people know."""
    names = {0: "batch", **({2: "height", 3: "width"} if any_size else {})}
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if axis in names and (axis == 0 or dense or value.name != output):
                dimension.dim_param = names[axis]


def to_half(path: Path) -> None:
    """Weights and arithmetic of a file in float16; images and output stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that float16 rounds to 0
        half = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    path.write_bytes(half.SerializeToString())


def to_int8(path: Path, batches: Sequence[Tensor]) -> None:
    """Convolutions and products of a file in integers of 8 bits, with the ranges that pictures show.

    Args:
        path: of the file, which is replaced.
        batches: images as the model takes them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Tensor] = iter(batches)

        def get_next(self) -> dict[str, Floats] | None:
            images = next(self._batches, None)
            return None if images is None else {INPUT: images.numpy()}

    texts = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    prepared, made = path.with_suffix(".prepared.onnx"), path.with_suffix(".int8.onnx")
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        proto = onnx.load(made)
        onnx.helper.set_model_props(proto, texts)
        path.write_bytes(proto.SerializeToString())
    finally:
        for one in (prepared, made):
            one.unlink(missing_ok=True)

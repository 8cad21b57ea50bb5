"""The formats of a computation: each is written, and opened again by what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from hornet_train.export.comparison import Run
from hornet_train.export.export_wanted import Export
from hornet_train.export.plain_graph import plain_graph
from hornet_train.run.onnx_model import OnnxModel
from hornet_train.tasks.predictor_types import Graph


def write_graph(
    wanted: Export,
    graph: Graph,
    model: nn.Module,
    images: Tensor,
    ranges: Sequence[Tensor],
    texts: Mapping[str, str],
    path: Path,
) -> Run:
    """Write a model in a format of `GRAPHS`, and open it again, ready to run.

    Args:
        graph: what the model takes and gives.
        model: fused, on the CPU.
        images: (B, C, H, W), of the size that the file is for.
        ranges: images that show the ranges of integers of 8 bits.
        texts: travel with the file, key -> text.
        path: of the file.

    Raises:
        ConfigError: the model cannot be written so.
    """
    plain = plain_graph(model, images, any_size=wanted.any_size)
    if wanted.form == "pt2":
        from hornet_train.export.torch_files import open_pt2, write_pt2

        write_pt2(plain, images, path, any_size=wanted.any_size, texts=texts)
        return open_pt2(path)
    if wanted.form == "torchscript":
        from hornet_train.export.torch_files import open_torchscript, write_torchscript

        write_torchscript(plain, images, path, texts=texts)
        return open_torchscript(path)
    if wanted.form == "aoti":
        from hornet_train.export.compiled_file import open_aoti, write_aoti

        write_aoti(plain, images, path, any_size=wanted.any_size, texts=texts)
        return open_aoti(path)
    if wanted.form == "executorch":
        from hornet_train.export.mobile_files import open_executorch, write_executorch

        write_executorch(plain, images, path, texts)
        return open_executorch(path)
    if wanted.form == "litert":
        from hornet_train.export.mobile_files import open_litert, write_litert

        write_litert(plain, images, path, texts)
        return open_litert(path)
    return _write_onnx(wanted, graph, plain, images, ranges, texts, path)


def _write_onnx(
    wanted: Export,
    graph: Graph,
    plain: nn.Module,
    images: Tensor,
    ranges: Sequence[Tensor],
    texts: Mapping[str, str],
    path: Path,
) -> Run:
    """ONNX, and what is made of it."""
    from hornet_train.export.onnx_file import to_half, to_int8, write_onnx

    file = path if wanted.form == "onnx" else path.with_suffix(".onnx")
    write_onnx(
        plain,
        images,
        file,
        output=graph.output,
        dense=graph.dense,
        opset=wanted.opset,
        any_size=wanted.any_size,
        texts=texts,
    )
    if wanted.form == "openvino":
        from hornet_train.export.openvino_file import open_openvino, write_openvino

        write_openvino(file, path, texts)
        return open_openvino(path)
    if wanted.half:
        to_half(path)
    if wanted.int8:
        to_int8(path, ranges)
    return OnnxModel(path)

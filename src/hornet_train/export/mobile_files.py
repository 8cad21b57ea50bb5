"""Files for phones and small devices: ExecuTorch's .pte, LiteRT's .tflite. Both take one image at a time."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.comparison import Run
from hornet_train.models.spec import MODEL_ERRORS, first_line

TEXTS = "provenance"  # the method of a .pte, and the metadata of a .tflite, that hold the texts as JSON


def write_executorch(model: nn.Module, images: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    """Write a model of an image (1, C, H, W) for ExecuTorch's CPU kernels (XNNPACK).

    Raises:
        ConfigError: the model cannot be written so.
    """
    with _silence():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            with torch.no_grad():
                program = torch.export.export(model, (images[:1].contiguous(),), strict=False)
            lowered: Any = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={TEXTS: json.dumps(dict(texts))},
            )
            content = lowered.to_executorch().buffer
        except MODEL_ERRORS as error:
            raise ConfigError(
                [f"this model cannot be written for ExecuTorch ({first_line(error)})"]
            ) from error
    path.write_bytes(content)


def open_executorch(path: Path) -> Run:
    """A .pte, ready to run on this CPU."""
    with _silence():  # that its Python is experimental
        from executorch.runtime import Runtime

        method: Any = Runtime.get().load_program(path).load_method("forward")

    def one(image: Tensor) -> Tensor:
        found: Tensor = method.execute([image])[0]
        return found.clone()

    return _image_by_image(one)


def write_litert(model: nn.Module, images: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    """Write a model of an image (1, C, H, W) for LiteRT, formerly TensorFlow Lite.

    Raises:
        ConfigError: the model cannot be written so.
    """
    with _silence():
        import litert_torch

        try:
            with torch.no_grad():
                litert_torch.convert(model, (images[:1].contiguous(),)).export(str(path))
        except MODEL_ERRORS as error:
            raise ConfigError([f"this model cannot be written for LiteRT ({first_line(error)})"]) from error
    _add_texts(path, texts)


def _add_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Put the texts into a .tflite, as a buffer that its metadata name."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    made = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(json.dumps(dict(texts)).encode())
    entry.name, entry.buffer = TEXTS, len(made.buffers)
    made.buffers.append(buffer)
    made.metadata = [*(made.metadata or []), entry]
    builder = flatbuffers.Builder()
    builder.Finish(made.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def open_litert(path: Path) -> Run:
    """A .tflite, ready to run on this CPU."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=torch.get_num_threads())
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def one(image: Tensor) -> Tensor:
        interpreter.set_tensor(taken, image.numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(given))

    return _image_by_image(one)


def _image_by_image(run: Run) -> Run:
    return lambda images: torch.cat([run(image.contiguous()) for image in images.split(1)])


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what converters say of their own progress."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)

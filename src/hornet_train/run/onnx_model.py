"""An exported model: an ONNX file, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.models.spec import first_line
from hornet_train.tasks.kit_types import ExportedModel

INPUT = "images"
Floats = np.ndarray[Any, np.dtype[np.float32]]
Array = np.ndarray[Any, np.dtype[Any]]


class OnnxModel(ExportedModel):
    """Images (B, C, H, W), float32, to the file's output, in as many threads as torch has.

    Args:
        path: of the file.
        classes: how many names of classes it has; None: they are not used.

    Attributes:
        size: (height, width) in pixels that images must have; None: any.
        session: ONNX Runtime's.

    Raises:
        CheckpointError: the file cannot be run, is no export of this program, or has another number of
            outputs than of names.
        ConfigError: ONNX Runtime is not installed.
    """

    inputs: tuple[str, ...] = (INPUT,)

    def __init__(self, path: Path, classes: int | None = None) -> None:
        super().__init__()
        self.path, self.classes = path, classes
        self.session = open_session(path)
        found = self.session.get_inputs()
        if tuple(one.name for one in found) != self.inputs or len(found[0].shape) != 4:
            wanted = " and ".join(f"`{name}`" for name in self.inputs)
            raise CheckpointError(f"{path} is no export of this program: its input is not {wanted}")
        sides = found[0].shape[2:]
        fixed = all(isinstance(side, int) for side in sides)
        self.size = (sides[0], sides[1]) if fixed else None
        self.check_outputs()

    def check_outputs(self) -> None:
        """Make sure that there is a name for each output of a class.

        Raises:
            CheckpointError: there is not.
        """
        shape = self.session.get_outputs()[0].shape
        if self.classes is not None and (len(shape) < 2 or shape[1] != self.classes):
            given = shape[1] if len(shape) > 1 else "no"
            raise CheckpointError(f"{self.path} has {given} outputs and {self.classes} names of classes")

    def forward(self, images: Tensor) -> Tensor:
        """The output on the device of the images.

        Raises:
            RuntimeError: ONNX Runtime cannot run the file on them.
        """
        given = {INPUT: images.float().cpu().contiguous().numpy()}
        return torch.from_numpy(run_session(self.session, given)[0]).to(images.device)


def open_session(path: Path) -> Any:
    """An ONNX file in ONNX Runtime, on the CPU.

    Raises:
        CheckpointError: it cannot be run.
        ConfigError: ONNX Runtime is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise ConfigError([f"{path} needs onnxruntime: pip install 'hornet-train[onnx]'"])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes derive from nothing else, and are not public
        raise CheckpointError(f"{path} cannot be run by ONNX Runtime ({first_line(error)})") from error


def run_session(session: Any, given: Mapping[str, Array]) -> list[Array]:
    """All outputs.

    Raises:
        RuntimeError: ONNX Runtime cannot run the file on what is given.
    """
    try:
        found: list[Array] = session.run(None, dict(given))
    except Exception as error:  # see `open_session`
        raise RuntimeError(f"ONNX Runtime: {first_line(error)}") from error
    return found

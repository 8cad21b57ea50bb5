"""An exported model: an ONNX file, run by ONNX Runtime on the CPU."""

from __future__ import annotations

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


class OnnxModel(ExportedModel):
    """Images (B, C, H, W), float32, to the file's output, in as many threads as torch has.

    Attributes:
        size: (height, width) in pixels that images must have; None: any.

    Raises:
        CheckpointError: the file cannot be run, or is no export of this program.
        ConfigError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if find_spec("onnxruntime") is None:
            raise ConfigError([f"{path} needs onnxruntime: pip install 'hornet-train[onnx]'"])
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes derive from nothing else, and are not public
            raise CheckpointError(f"{path} cannot be run by ONNX Runtime ({first_line(error)})") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].name != INPUT or len(inputs[0].shape) != 4:
            raise CheckpointError(f"{path} is no export of this program: its input is not `{INPUT}`")
        sides = inputs[0].shape[2:]
        fixed = all(isinstance(side, int) for side in sides)
        self.size = (sides[0], sides[1]) if fixed else None

    def forward(self, images: Tensor) -> Tensor:
        """The output on the device of the images.

        Raises:
            RuntimeError: ONNX Runtime cannot run the file on them.
        """
        given = {INPUT: images.float().cpu().contiguous().numpy()}
        try:
            found: Floats = self._session.run(None, given)[0]
        except Exception as error:  # see above
            raise RuntimeError(f"ONNX Runtime: {first_line(error)}") from error
        return torch.from_numpy(found).to(images.device)

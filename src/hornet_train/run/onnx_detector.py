"""An exported detector: an ONNX file, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hornet_train.dense.rcnn.suppression import Kept
from hornet_train.errors import CheckpointError
from hornet_train.run.onnx_model import OnnxModel, run_session

PICTURE = "picture"


class OnnxDetector(OnnxModel):
    """One image at a time to its detections, as `Detector` gives them.

    Attributes:
        size: see `OnnxModel`.
    """

    inputs = ("images", PICTURE)

    def check_outputs(self) -> None:
        """See `OnnxModel`; which classes there are shows in what is found."""
        names = [one.name for one in self.session.get_outputs()]
        if names not in (["boxes", "scores", "labels"], ["boxes", "scores", "labels", "masks"]):
            raise CheckpointError(
                f"{self.path} is no export of this program: its outputs are {', '.join(names)}"
            )

    def forward(  # type: ignore[override]  # of one picture, as detectors are asked
        self,
        images: Tensor,
        pictures: Sequence[tuple[int, int]],
        scales: Sequence[tuple[float, float]] | None = None,
    ) -> list[tuple[Kept, Tensor | None]]:
        """See `Detector.forward`.

        Raises:
            CheckpointError: it finds an object of a class that has no name.
            RuntimeError: ONNX Runtime cannot run the file on them.
        """
        found = []
        for place, picture in enumerate(pictures):
            given = {
                self.inputs[0]: images[place : place + 1].float().cpu().contiguous().numpy(),
                PICTURE: torch.tensor(picture, dtype=torch.float32).numpy(),
            }
            boxes, scores, labels, *masks = (
                torch.from_numpy(one).to(images.device) for one in run_session(self.session, given)
            )
            if (
                self.classes is not None
                and len(labels)
                and not 0 <= labels.min() <= labels.max() < self.classes
            ):
                raise CheckpointError(f"{self.path} finds objects of a class that has no name in it")
            across, down = (1.0, 1.0) if scales is None else scales[place]
            scale = boxes.new_tensor([across, down, across, down])
            kept = Kept(boxes / scale, scores, labels, torch.arange(len(labels), device=labels.device))
            found.append((kept, masks[0] if masks else None))
        return found

"""Training pictures as the model sees them, with their objects, for a person to look at."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from hornet_train.data.batch import ragged
from hornet_train.tasks.detection.build.components import build_task, train_samples
from hornet_train.tasks.detection.build.open_data import check_outlines, open_objects
from hornet_train.tasks.detection.drawing import Marks, marked
from hornet_train.tasks.detection.rle import Window
from hornet_train.tasks.detection.samples import BOXES, IMAGE, LABELS, PIXELS, WINDOWS, unpacked
from hornet_train.tasks.detection.schema import DetectionConfig
from hornet_train.tasks.first_batch import as_pixels, first_batch, plan_to_look_at
from hornet_train.tasks.kit_types import Drawn

_NAMED = 3  # classes in a caption


def draw_batch(config: DetectionConfig, *, images: int, epoch: int) -> Drawn:
    """The first micro-batch of an epoch, with boxes and masks.

    Raises:
        UserError: the data cannot be used.
    """
    data, masks = config.data, config.model.masks
    opened = open_objects(data)
    assert opened.train is not None
    check_outlines(config.model, opened.train)
    plan = plan_to_look_at(len(opened.train), images, seed=config.seed, shapes=opened.shapes)
    samples = train_samples(config, opened.train)
    loaded = first_batch(
        *(opened.train, samples, plan), epoch=epoch, workers=data.workers, prefetch=data.prefetch
    )
    task = build_task(config, len(opened.classes))
    seen, pictures = task.padded(ragged(loaded.batch, IMAGE))
    sheets, captions = [], []
    for place, image_CHW in enumerate(as_pixels(seen, task.normalize)):
        labels = ragged(loaded.batch, LABELS)[place].tolist()
        windows: list[Window] = []
        if masks:
            parts = ragged(loaded.batch, WINDOWS)[place], ragged(loaded.batch, PIXELS)[place]
            windows = [Window(0, 0, one.numpy().astype(bool)) for one in unpacked(*parts, pictures[place])]
        marks = Marks(
            ragged(loaded.batch, BOXES)[place].numpy(),
            labels,
            [opened.classes[label] for label in labels],
            [False] * len(labels),
            windows,
        )
        picture = image_CHW.permute(1, 2, 0).contiguous().numpy()
        sheets.append(torch.from_numpy(marked(picture, marks, len(opened.classes)).copy()).permute(2, 0, 1))
        counts = Counter(opened.classes[label] for label in labels)
        common = ", ".join(f"{number} {name}" for name, number in counts.most_common(_NAMED))
        captions.append((common or "no object") + ", ..." * (len(counts) > _NAMED))
    height, width = seen.shape[2:]
    areas = np.prod(np.array(pictures), axis=1)
    padding = 1 - float(areas.sum()) / (len(pictures) * height * width)
    title = (
        f"{data.source}, epoch {epoch}, padded to {height} x {width} pixels, {padding:.1%} padding, "
        f"seed {config.seed}"
    )
    return Drawn(torch.stack(sheets), captions, loaded.bad, title)

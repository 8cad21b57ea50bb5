"""A checkpoint of a detector, and the pictures that it is evaluated on."""

from __future__ import annotations

from dataclasses import replace

from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import CheckpointError
from hornet_train.tasks.detection.build.components import build_task, eval_transform
from hornet_train.tasks.detection.build.open_data import check_outlines, open_objects
from hornet_train.tasks.detection.gallery import Gallery
from hornet_train.tasks.detection.samples import EvalSamples
from hornet_train.tasks.detection.schema import DetectionEval
from hornet_train.tasks.detection.starting_weights import has_masks, load_detector
from hornet_train.tasks.kit_types import Evaluation, EvaluationSet, Weights
from hornet_train.tasks.saved_pictures import folder_of


def open_evaluation(config: DetectionEval, weights: Weights) -> Evaluation:
    """The model with its weights, and the held-out pictures.

    Raises:
        UserError: the checkpoint is for another model, or for other classes than the data's.
    """
    if config.model.masks and not has_masks(weights):
        raise CheckpointError(f"{weights.place} finds boxes alone: model.masks=false")
    opened = open_objects(config.data, training=False, classes=weights.classes or None)
    assert opened.val is not None
    names, source = opened.classes, opened.val
    outlines = check_outlines(config.model, source)
    task = build_task(config, len(names), truth=source, present=opened.present)
    model = task.build_model()
    assert isinstance(model, Detector)
    notes = [*opened.notes, *outlines, *load_detector(model, weights)]
    gallery = Gallery(
        source,
        opened.categories,
        config.save,
        config.worst,
        folder_of(config.save_dir, config.out, config.checkpoint),
    )
    gallery.check_folder()
    one = EvaluationSet(
        config.data.source,
        replace(task, keeper=gallery),
        {"": source},
        EvalSamples(eval_transform(config.data)),
    )
    return Evaluation(model, [one], notes=notes, image_size=None, facts={"classes": list(names)})

"""A checkpoint of a segmentation model, and the pictures that it is evaluated on."""

from __future__ import annotations

from dataclasses import replace

from hornet_train.dense.segmenter import Segmenter
from hornet_train.tasks.kit_types import Evaluation, EvaluationSet, Weights
from hornet_train.tasks.saved_pictures import folder_of
from hornet_train.tasks.segmentation.build.components import build_task, eval_transform
from hornet_train.tasks.segmentation.build.open_data import open_pictures
from hornet_train.tasks.segmentation.gallery import Gallery
from hornet_train.tasks.segmentation.samples import EvalSamples
from hornet_train.tasks.segmentation.schema import SegmentationEval
from hornet_train.tasks.segmentation.starting_weights import has_auxiliary, load_segmenter


def open_evaluation(config: SegmentationEval, weights: Weights) -> Evaluation:
    """The model with its weights, and the held-out pictures.

    Raises:
        UserError: the checkpoint is for another model, or for other classes than the data's.
    """
    opened = open_pictures(config.data, training=False, classes=weights.classes or None)
    assert opened.val is not None
    names, source = opened.classes, opened.val
    task = build_task(config, len(names), auxiliary=1.0 if has_auxiliary(weights) else 0.0)
    model = task.build_model()
    assert isinstance(model, Segmenter)
    notes = [*opened.notes, *load_segmenter(model, weights)]
    samples = EvalSamples(eval_transform(config.data))
    gallery = Gallery(
        source, names, config.save, config.worst, folder_of(config.save_dir, config.out, config.checkpoint)
    )
    gallery.check_folder()
    one = EvaluationSet(config.data.source, replace(task, keeper=gallery), {"": source}, samples)
    slides = config.data.inference == "slide"
    return Evaluation(
        model,
        [one],
        notes=notes,
        image_size=config.data.image_size if slides else None,
        facts={"classes": list(names)},
    )

"""The lists of keys that the commands work with, found by walking the schemas."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hornet_train.config.bench_schema import BENCHES
from hornet_train.config.key import Key, keys_where, walk
from hornet_train.config.schema import InfoConfig
from hornet_train.tasks.classification.schema import ClassificationConfig, ClassificationEval

SCHEMAS = (
    *(ClassificationConfig, ClassificationEval, InfoConfig),
    *BENCHES.values(),
)
PATHS = {
    *("data.root", "data.name", "data.val_labels", "data.labels", "run_dir", "init_from", "init_map"),
    *("checkpoint", "out", "plot", "data.class_map", "data.file"),
}
LISTS = {"models", "peers", "modes", "layouts", "batches", "parts", "widths", "sides", "orders", "runtimes"}
TRAINING_ONLY = {
    *("model.drop_path", "model.grad_checkpointing", "data.drop_last", "data.max_bad", "data.val"),
    *("data.train_count", "data.train_split", "data.shuffle_buffer"),
}
NO_COST = {"model.drop_path", "model.grad_checkpointing", "model.kernels", "model.channels_last"}
PREPROCESSING = {
    *("data.image_size", "data.mean", "data.std", "data.crop_pct", "data.interpolation", "data.exif"),
}
HOW_READ = PREPROCESSING | {
    *("data.workers", "data.prefetch", "data.drop_last", "data.max_bad", "data.on_bad"),
}
NAMES_OPTION = {"model.name", "data.source", "schedule.kind"}
NEUTRAL = {
    *("run_dir", "resume", "init_from", "init_map", "micro_batch_size", "data.root", "data.train_dir"),
    *("data.val_dir", "data.val_labels", "data.workers", "data.prefetch", "data.max_bad", "data.on_bad"),
    *("dist", "log", "checkpoint", "guard", "eval", "recipe", "model.grad_checkpointing", "data.file"),
    "data.val_share",
}


@pytest.mark.parametrize(
    ("holds", "expected", "schemas"),
    [
        (lambda key: key.path, PATHS, SCHEMAS),
        (lambda key: key.comma_list, LISTS, SCHEMAS),
        (lambda key: key.free, {"model.args"}, SCHEMAS),
        (lambda key: key.training_only, TRAINING_ONLY, [ClassificationEval]),
        (lambda key: key.no_cost, NO_COST, [InfoConfig]),
        (lambda key: key.preprocessing, PREPROCESSING, [ClassificationEval]),
        (lambda key: key.how_read, HOW_READ, [ClassificationConfig]),
        (lambda key: key.names_option, NAMES_OPTION, [ClassificationConfig]),
        (lambda key: key.neutral, NEUTRAL, [ClassificationConfig]),
        (lambda key: key.evaluation_only, {"data.source"}, [ClassificationConfig]),
        (lambda key: key.selects_data == "_suite", {"suite"}, [ClassificationEval]),
    ],
)
def test_which_keys_have_a_property(
    holds: Callable[[Key], object], expected: set[str], schemas: list[type]
) -> None:
    assert set().union(*(keys_where(schema, holds) for schema in schemas)) == expected


def test_a_narrower_field_of_a_subclass_keeps_the_properties() -> None:
    sources = [key for name, key, _ in walk(ClassificationConfig) if name == "data.source"]
    assert len(sources) == 9
    assert all(key.names_option for key in sources)
    assert sum(key.evaluation_only for key in sources) == 3


def test_a_field_that_is_written_under_another_name_has_that_name() -> None:
    names = {name for name, _, _ in walk(ClassificationConfig)}
    assert "recipe.top1" in names
    assert "recipe.published" not in names

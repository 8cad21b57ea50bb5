"""The sets of an evaluation: one data group's held-out images, or several sets below one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from hornet_train.data.sources.listing import check_folder
from hornet_train.errors import DataError
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.evaluation_sets import EvaluationSet
from hornet_train.tasks.classification.schema import ClassificationEval, RealData, SetData, SuiteData
from hornet_train.tasks.classification.suites import Suite, find_set, open_set, usual_places


def open_sets(
    config: ClassificationEval, classes: Sequence[str], kept: Mapping[str, Path] | None = None
) -> tuple[list[Suite], list[EvaluationSet]]:
    """The sets to evaluate on, and with suite=all those that are in no usual place.

    `classes`: those that the model was trained on, by which the images' classes are matched; empty where they
    are not known.
    `kept`: the lists of files of the run that it is from, by which `data.val_share` holds out the same ones.

    Raises:
        DataError: one that is asked for is not there or incomplete; or with suite=all, none is there.
    """
    data = config.data
    if isinstance(data, SuiteData):
        assert config.suite is not None
        assert data.root is not None
        return _below(Path(data.root), config.suite)
    if isinstance(data, SetData):
        assert data.root is not None
        return [open_set(data.source, Path(data.root))], []
    if isinstance(data, RealData):
        assert data.root is not None
        labels = Path(data.labels) if data.labels is not None else None
        return [open_set(data.source, Path(data.root), labels)], []
    datasets = open_data(data, training=False, classes=classes or None, kept=kept)
    assert datasets.val is not None
    parts = {"": datasets.val}
    return [Suite(data.source, datasets.classes, parts, notes=datasets.notes, absent=datasets.absent)], []


def _below(root: Path, asked: tuple[EvaluationSet, ...] | str) -> tuple[list[Suite], list[EvaluationSet]]:
    check_folder(root, "give the folder that holds the sets' folders", "data.root=")
    names: tuple[EvaluationSet, ...] = get_args(EvaluationSet) if isinstance(asked, str) else asked
    places = {name: find_set(root, name) for name in names}
    missing = [name for name, place in places.items() if place is None]
    if missing and (isinstance(asked, tuple) or len(missing) == len(names)):
        looked = "\n".join(f"  - {name}: {', '.join(usual_places(name))}" for name in missing)
        raise DataError(
            f"data.root={root} does not hold these sets; looked for\n{looked}\n"
            "give data.root= the folder that holds them, or a link to each by such a name"
        )
    suites, faults = [], []
    for name, place in places.items():
        if place is None:
            continue
        try:
            suites.append(open_set(name, place))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return suites, missing

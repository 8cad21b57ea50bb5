"""A look at what the jobs of a sweep read, before the first one starts: once, not once a job."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config
from hornet_train.config.sweep import Planned
from hornet_train.errors import DataError, UserError


def check_data(jobs: Sequence[Planned]) -> None:
    """Open each data set of a sweep once, and look whether the initial weights are there.

    Raises:
        UserError: something is not there, or not as it should be.
    """
    from hornet_train._timm import import_timm

    import_timm()
    from hornet_train.tasks.table import kit_of

    opened = set()
    for job in jobs:
        config, task = job.composed.config, job.composed.task
        assert task is not None
        which = f" (of the job {job.values})" if job.values else ""
        for key, path in (("init_from", config.init_from), ("init_map", config.init_map)):
            if path is not None and not os.path.exists(path):
                raise DataError(f"{key}={path}: there is no such file or folder{which}")
        data = json.dumps([task, _samples(config, job.composed.tree)], sort_keys=True)
        if data in opened:
            continue
        opened.add(data)
        try:
            kit_of(task).open_data(config.data)
        except UserError as error:
            several = len({json.dumps(_samples(one.composed.config, one.composed.tree)) for one in jobs}) > 1
            raise DataError(f"{error}{which if several else ''}") from error


def _samples(config: Config, tree: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that says which samples there are."""
    how_read = keys_where(type(config), lambda key: key.how_read)
    return {name: value for name, value in tree["data"].items() if f"data.{name}" not in how_read}

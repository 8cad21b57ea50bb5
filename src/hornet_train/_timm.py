"""`import hornet_train` makes HorNet a timm model, without making every command wait for timm."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType


def register_with_timm() -> None:
    """Register the models now where timm is imported already, else as soon as it is."""
    if "timm.models" in sys.modules:
        importlib.import_module("hornet_train.models")
    elif not any(isinstance(finder, _AfterTimm) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTimm())


def import_timm() -> None:
    """Import timm without the wandb that it imports on its own account, used or not.

    For commands, which import wandb where it is asked for: a broken one must not keep the others from
    starting. `import hornet_train` in somebody's program leaves timm as it is.
    """
    if "timm" in sys.modules or "wandb" in sys.modules:
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]  # an ImportError, which timm expects
    try:
        importlib.import_module("timm")
    finally:
        del sys.modules["wandb"]


class _AfterTimm(importlib.abc.MetaPathFinder):
    """Finds `timm.models` as the others do, and imports our models when it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "timm.models":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        importlib.import_module("hornet_train.models")

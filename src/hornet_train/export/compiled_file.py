"""AOTInductor: a model compiled to a library for the processor that compiles it, in one .pt2 file."""

from __future__ import annotations

import site
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.comparison import Run
from hornet_train.export.plain_graph import example_of, free_dimensions
from hornet_train.models.spec import MODEL_ERRORS, first_line

_SOURCES = (".cpp", ".cu")  # in the file, for people who look for faults in torch
_LIBRARY = ".so"
_SHORTEST = 6  # bytes of a name that is overwritten


def write_aoti(
    model: nn.Module, images: Tensor, path: Path, *, any_size: bool, texts: Mapping[str, str]
) -> None:
    """Compile a model of images (B, C, H, W), for any B; see `write_onnx`.

    Raises:
        ConfigError: the model cannot be compiled.
    """
    import torch._inductor

    axes = free_dimensions(any_size=any_size)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        try:
            with torch.no_grad():
                program = torch.export.export(model, (example_of(images),), dynamic_shapes=axes, strict=False)
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(made),
                inductor_configs={"aot_inductor.metadata": dict(texts)},
            )
        except MODEL_ERRORS as error:
            raise ConfigError(
                [f"this model cannot be compiled by AOTInductor ({first_line(error)})"]
            ) from error
        _without_places(made, path)


def _without_places(made: Path, path: Path) -> None:
    """Write a package without sources, and without the names that compilers leave of this machine's folders.

    They stand in what is for debuggers, and where the loader looks for torch's libraries, which are loaded
    already: each is overwritten by as many other characters, so that all else stays where it is.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    places = {cache_dir(), sys.prefix, sys.base_prefix, str(Path.home()), *site.getsitepackages()}
    places |= {str(Path(torch.__file__).parents[1])}
    # the longest first: some lie in others; so short a one may stand among the weights by chance
    named = sorted((f"{place}/".encode() for place in places), key=len, reverse=True)
    named = [name for name in named if len(name) >= _SHORTEST]
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if entry.filename.endswith(_SOURCES):
                continue
            content = old.read(entry)
            if entry.filename.endswith(_LIBRARY):
                for name in named:
                    content = content.replace(name, b"_" * (len(name) - 1) + b"/")
            new.writestr(zipfile.ZipInfo(entry.filename), content)


def open_aoti(path: Path) -> Run:
    """A package, ready to run on the CPU."""
    import torch._inductor

    package: Run = torch._inductor.aoti_load_package(str(path))
    return lambda images: package(images.contiguous())

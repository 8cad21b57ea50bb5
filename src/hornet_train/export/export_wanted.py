"""What is to be exported, in plain values; imports no torch, so that mistakes are told at once."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from hornet_train.config.stored import HEADER
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.untrusted import MAX_JSON, parse_json, read_text


@dataclass(frozen=True)
class FormatFacts:
    """What is known of a format before anything is imported.

    Attributes:
        about: one line.
        suffix: of the file; empty for a folder.
        packages: that are imported, beyond those that this program always has.
        extra: of this program, which installs them.
    """

    about: str
    suffix: str
    packages: tuple[str, ...] = ()
    extra: str = ""


FORMATS = {
    "onnx": FormatFacts(
        "ONNX, for ONNX Runtime and most other runtimes",
        ".onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        "onnx",
    ),
    "openvino": FormatFacts(
        "OpenVINO IR: an .xml, and a .bin with the weights beside it",
        ".xml",
        ("onnx", "onnxscript", "onnxruntime", "openvino"),
        "openvino",
    ),
    "pt2": FormatFacts("torch.export's program, for torch.export.load", ".pt2"),
    "aoti": FormatFacts(
        "a library that AOTInductor compiles for the processor at hand; needs a C++ compiler", ".pt2"
    ),
    "executorch": FormatFacts(
        "ExecuTorch, for phones: one image at a time", ".pte", ("executorch",), "executorch"
    ),
    "litert": FormatFacts(
        "LiteRT (TensorFlow Lite), for phones: one image at a time",
        ".tflite",
        ("litert_torch", "ai_edge_litert"),
        "litert",
    ),
    "torchscript": FormatFacts("TorchScript, which torch keeps but does not develop further", ".pt"),
    "huggingface": FormatFacts(
        "a folder that timm.create_model('local-dir:...') loads, with a model card", ""
    ),
    "official": FormatFacts("a .pth with the names and layout of the published weights", ".pth"),
}
COMPILERS = ("g++", "clang++")
OPSETS = (18, 25)  # the first and last that are written right
CONFIG = "config.json"
HUGGINGFACE = {CONFIG, "README.md", "model.safetensors", "pytorch_model.bin"}  # the files of such a folder
# formats of the computation, not of the weights alone
GRAPHS = ("onnx", "openvino", "pt2", "aoti", "executorch", "litert", "torchscript")
_OF_DETECTORS = ("onnx", "official")
_MOST_TRACED = 20  # opset of the exporter that detectors need
NO_SIZES = "--any-size: global filters (GF) are stored for images of one size; 7x7 models take any"
_ONE_SIZE = {"torchscript": "a trace is", "executorch": "a .pte is", "litert": "a .tflite is"}


@dataclass(frozen=True)
class Export:
    """What is to be exported.

    Attributes:
        form: of `FORMATS`.
        out: the file, or the folder of huggingface.
        overwrite: whether one that exists may be replaced.
        opset: of ONNX.
        any_size: whether images of other sizes are taken, too.
        half: whether weights and arithmetic are float16 (ONNX).
        int8: whether convolutions and products are of 8-bit integers (ONNX), calibrated on pictures.
        licence: of the weights, in a word; None: it is not said.
    """

    form: str
    out: Path
    overwrite: bool = False
    opset: int = 20
    any_size: bool = False
    half: bool = False
    int8: bool = False
    licence: str | None = None

    def check(self, *, calibrated: bool = False) -> None:
        """Find what is wrong before anything is built; changes nothing.

        `calibrated`: whether there are pictures for integers of 8 bits.

        Raises:
            ConfigError: with every fault found.
        """
        if self.form not in FORMATS:
            raise ConfigError(
                [f"--format {self.form} is not known: {did_you_mean(self.form, list(FORMATS))}"]
            )
        faults = [*self._option_faults(), *self._place_faults()]
        if self.int8 and not calibrated:
            faults.append("--int8 needs --calibrate: some hundred pictures like those to come")
        if calibrated and not self.int8:
            faults.append("--calibrate is for --int8")
        missing = [one for one in FORMATS[self.form].packages if importlib.util.find_spec(one) is None]
        if self.form == "aoti" and not any(map(shutil.which, COMPILERS)):
            faults.append(f"--format aoti needs a C++ compiler: {' or '.join(COMPILERS)}")
        if missing:
            extra = FORMATS[self.form].extra
            faults.append(
                f"--format {self.form} needs {', '.join(missing)}: pip install 'hornet-train[{extra}]'"
            )
        if faults:
            raise ConfigError(faults)

    def check_detector(self, *, fixed: bool) -> None:
        """Find what a detector cannot be exported as. `fixed`: it takes images of one size.

        Raises:
            ConfigError: with every fault found.
        """
        faults = []
        if self.form not in _OF_DETECTORS:
            faults.append(f"--format {self.form}: detectors are exported as {' or '.join(_OF_DETECTORS)}")
        if self.half or self.int8:
            faults.append("--half and --int8 are for classifiers and segmentation")
        if self.opset > _MOST_TRACED:
            faults.append(f"--opset {self.opset}: detectors are written in {OPSETS[0]} to {_MOST_TRACED}")
        if self.any_size and fixed:
            faults.append(NO_SIZES)
        if faults:
            raise ConfigError(faults)

    def _option_faults(self) -> list[str]:
        faults = []
        first, last = OPSETS
        if not first <= self.opset <= last:
            faults.append(f"--opset {self.opset}: the exporter writes {first} to {last} right, and no other")
        if self.form != "onnx":
            given = {"--opset": self.opset != Export.opset, "--half": self.half, "--int8": self.int8}
            faults += [f"{flag} is for --format onnx, not {self.form}" for flag, on in given.items() if on]
        if self.form not in GRAPHS:
            faults += [f"--any-size: {self.form} holds weights, which have no size"] * self.any_size
        if self.any_size and self.form in _ONE_SIZE:
            what = f"{_ONE_SIZE[self.form]} for images of one size"
            faults.append(f"--any-size: {what}; onnx, openvino, pt2 and aoti take any")
        if self.half and self.int8:
            faults.append("--half and --int8 exclude each other")
        return faults

    def _place_faults(self) -> list[str]:
        out, suffix = self.out, FORMATS[self.form].suffix
        if suffix and out.suffix.lower() != suffix:
            return [f"--out={out}: {self.form} is a {suffix} file: name it {out.with_suffix(suffix)}, say"]
        if not out.absolute().parent.is_dir():
            return [f"--out={out}: there is no folder {out.absolute().parent}"]
        if out.is_dir() and suffix:
            return [f"--out={out} is a folder: give the path of a file"]
        if not suffix and out.exists() and self.overwrite and not _is_export(out):
            return [f"--out={out} is nothing that hornet-export wrote, and is not replaced: choose another"]
        beside = [out, out.with_suffix(".bin")] if self.form == "openvino" else [out]
        return [
            f"--out={one} exists: choose another, or --overwrite"
            for one in beside
            if one.exists() and not self.overwrite
        ]


def _is_export(folder: Path) -> bool:
    """Whether a folder is an earlier export of ours, and holds nothing else."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not {CONFIG} <= names <= HUGGINGFACE:
        return False
    try:
        kept = parse_json(read_text(folder / CONFIG, MAX_JSON))
    except (OSError, ValueError):
        return False
    return isinstance(kept, dict) and HEADER in kept

"""What scripts/gpu_day.sh needs beside the commands: an environment, facts, a list of wheels, a summary.

    gpu_day.py environment FOLDER WHEELS   a virtual environment over this one; WHEELS may be ''
    gpu_day.py facts DEVICE FILE           a line about GPU, driver and torch, and what is missing
    gpu_day.py list-wheels [FILE]          the pip command that fetches what the machine of FILE lacks
    gpu_day.py summary OUT WORK            OUT/summary.md and OUT/results.json, of what is there by now

Only the standard library at the top: it has to tell what is missing where nothing is installed.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES_ALONE = ("antlr4-python3-runtime",)  # on the package index; of pure Python
NOT_OURS_TO_BRING = ("torch", "torchvision", "triton", "nvidia", "cuda")
FOR_THE_TESTS = ("pytest", "hypothesis", "pytest-xdist", "scikit-image")


def name_of(requirement: str) -> str:
    """The normalized name at the start of `Name>=1`, `name==1`, `name @ file:...`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def with_torch(name: str) -> bool:
    """Whether a package comes with the machine's torch."""
    return name.split("-")[0] in NOT_OURS_TO_BRING


def requirements() -> list[str]:
    """What pyproject.toml asks for, of which the GPU tests need; without torch and torchvision."""
    tests = [one for one in PROJECT["optional-dependencies"]["dev"] if name_of(one) in FOR_THE_TESTS]
    return [one for one in [*PROJECT["dependencies"], *tests] if not with_torch(name_of(one))]


def environment(folder: Path, wheels: str) -> int:
    """Make it, with our commands as scripts; the exit status of pip where there are wheels."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
    commands = {**PROJECT["scripts"], "torchrun": "torch.distributed.run:main"}
    for name, place in commands.items():
        module, function = place.split(":")
        script = folder / "bin" / name
        script.write_text(f"#!{python}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    if not wheels:
        return 0
    fixed = folder / "fixed.txt"
    fixed.write_text(
        "".join(f"{d.name}=={d.version}\n" for d in metadata.distributions() if with_torch(name_of(d.name)))
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-index",
        "--find-links",
        wheels,
    ]
    return subprocess.run(
        [*pip, "--disable-pip-version-check", "--constraint", str(fixed), *requirements()]
    ).returncode


def installed(name: str) -> str | None:
    """The version of a package here."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def lacking(have: dict[str, str] | None) -> list[str]:
    """Names of packages that a machine lacks, or has too old.

    Args:
        have: name -> version, '' for any; None: what is installed here, of
            which only what pyproject.toml names is looked at.
    """
    from packaging.requirements import Requirement

    found: dict[str, None] = {}
    visited: set[str] = set()
    waiting = [Requirement(one) for one in requirements()]
    while waiting:
        one = waiting.pop(0)
        name = name_of(one.name)
        there = installed(name) if have is None else have.get(name)
        if with_torch(name) or there == "" or (there and one.specifier.contains(there, prereleases=True)):
            continue
        found[name] = None
        if have is None or name in visited:
            continue
        visited.add(name)
        for text in metadata.requires(one.name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *one.extras)):
                waiting.append(needed)
    return list(found)


def facts(device: str, file: Path) -> int:
    """Print and keep them."""
    content: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count(), "device": device}
    try:
        import torch

        content |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        if torch.cuda.is_available():
            content |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
            content["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            content["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except (ImportError, OSError) as error:
        content["torch"] = f"cannot be used: {error}"
    content |= {name: installed(name) for name in ("torchvision", "timm", "numpy")}
    try:
        content["missing"] = lacking(None)
    except ImportError:
        content["missing"] = ["packaging"]
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    content["commit"] = git.stdout.strip() or None
    sys.stdout.write(", ".join(f"{key} {value}" for key, value in content.items()) + "\n")
    file.write_text(json.dumps(content), encoding="utf-8")
    usable = "gpu" in content if device == "cuda" else "cuda" in content
    return 0 if usable and not content["missing"] else 1


def list_wheels(file: str | None) -> int:
    """Print the pip command."""
    have: dict[str, str] = {}
    for line in Path(file).read_text(encoding="utf-8").splitlines() if file else []:
        _, _, version = line.partition("==")
        have[name_of(line)] = version.strip()
    pinned: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            pinned[name_of(line)] = line.strip()
    command = ["python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", "wheels"]
    command += ["--python-version", ".".join(platform.python_version_tuple()[:2]), "--implementation", "cp"]
    for kind in ("2_28", "2_27", "2_26", "2_24", "2_17"):
        command += ["--platform", f"manylinux_{kind}_x86_64"]
    command += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]
    build = ["python3", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels"]
    try:
        wanted = lacking(have)
    except (ImportError, metadata.PackageNotFoundError) as error:
        sys.stderr.write(
            f"gpu_day.py: hornet-train is not installed in {sys.executable} ({error}): "
            "set PYTHON=... to the Python of an environment that has it\n"
        )
        return 2
    if not wanted:
        sys.stdout.write("# nothing is missing there\n")
        return 0
    sys.stdout.write("# put that machine's Python after --python-version\n")
    for names, how in (
        ([name for name in wanted if name not in SOURCES_ALONE], command),
        ([name for name in wanted if name in SOURCES_ALONE], build),
    ):
        if names:
            sys.stdout.write(shlex.join([*how, *(pinned.get(name, name) for name in names)]) + "\n")
    return 0


def summary(out: Path, work: Path) -> int:
    """Write both files."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted((work / "results").glob("*.json"))}
    runs = {}
    for metrics in sorted(work.glob("*/metrics.jsonl")):
        runs[metrics.parent.name] = [json.loads(line) for line in metrics.read_text().splitlines()]
    (out / "results.json").write_text(json.dumps({**found, "trainings": runs}, indent=1) + "\n")
    lines = ["# One GPU for a while", "", "```", *(out / "status.txt").read_text().splitlines(), "```", ""]
    lines += [f"- {key}: {value}" for key, value in found.get("facts", {}).items()]
    lines += ["", "## Tests", "", *tests_of((out / "tests.txt").read_text())]
    for name, result in found.items():
        if name.startswith(("step_", "limit_")):
            lines += ["", f"## {name}: {result['batch_size']} images of {result['image_size']} pixels", ""]
            lines += step_of(result) if name.startswith("step_") else limit_of(result)
    lines += ["", "## Trainings", ""]
    lines += [f"- {name}: {training_of(events)}" for name, events in runs.items()]
    if digits := found.get("digits"):
        lines.append(f"- digits, evaluated: top1 {digits['top1']:.2f} of {digits['count']} images")
    if objects := found.get("detection"):
        lines.append(
            f"- detection, evaluated: box AP {objects['box_ap']:.2f}, mask AP {objects['mask_ap']:.2f} of "
            f"{objects['count']} images"
        )
    for one in found.get("detectors", {}).get("measured", ()):
        lines.append(
            f"- {one['part']}, {one['mode']}, {one['name']}: {1000 * one['seconds']:.1f} ms, "
            f"{one['ratio'][0]:.2f} times as fast as its peer"
        )
    if masks := found.get("segmentation"):
        lines.append(f"- segmentation, evaluated: miou {masks['miou']:.2f} of {masks['count']} images")
    (out / "summary.md").write_text("\n".join(lines) + "\n")
    return 0


def step_of(result: dict[str, Any]) -> list[str]:
    """A table of hornet-bench step."""
    columns = ("model", "images/s", "ratio", "from", "to", "fastest when", "seconds of each setting")
    rows = [columns, ("---",) * len(columns)]
    for one in result["measured"]:
        ratios = [f"{one[key]:.2f}" for key in ("ratio", "ratio_least", "ratio_greatest")]
        tried = ", ".join(f"{setting}: {seconds:.4f}" for setting, seconds in one["tried"].items())
        rows.append((one["model"], f"{one['images_per_second']:.0f}", *ratios, one["setting"], tried))
    return [f"| {' | '.join(row)} |" for row in rows]


def limit_of(result: dict[str, Any]) -> list[str]:
    """The figures of hornet-bench limit."""
    content = {
        "a step": f"{result['seconds']:.4f} s",
        "matrix products, the peak": f"{result['matmul'] / 1e12:.1f} TFLOP/s",
        "copies, the peak": f"{result['bandwidth'] / 1e12:.2f} TB/s",
        "arithmetic at its peak": f"{100 * result['of_matmul']:.0f}% of the time",
        "bytes at theirs": f"{100 * result['of_bandwidth']:.0f}% of the time",
        **{
            f"kept for the backward pass, {how}": f"{size / 1e9:.2f} GB"
            for how, size in result["kept_bytes"].items()
        },
    }
    lines = [f"- {name}: {value}" for name, value in content.items()]
    for kind in ("operators", "kernels"):
        lines += ["", f"The costliest {kind}:", ""]
        lines += [f"- {100 * share:.1f}%, {calls} calls: `{name}`" for name, share, calls in result[kind]]
    return lines


def training_of(events: list[dict[str, Any]]) -> str:
    """How far a run came."""
    train = [event for event in events if event["event"] == "train"]
    if not train:
        return "no step"
    last = train[-1]
    content = f"{last['step']} steps, loss {last['loss']}, {last['images_per_second']:.0f} images/s"
    evaluated = [event for event in events if event["event"] == "eval"]
    metric = next((key for key in ("miou", "box_ap") if evaluated and key in evaluated[-1]), "top1")
    found = [f"{event['weights']} {event[metric]:.2f}" for event in evaluated]
    return f"{content}, {metric} {', '.join(found[-2:]) or 'not evaluated'}"


def tests_of(log: str) -> list[str]:
    """Counts, and each test that did not pass, of what pytest -v has written so far."""
    outcomes = {}
    for line in log.splitlines():
        worker = re.match(r"\[gw\d+\] .*?(PASSED|FAILED|ERROR|SKIPPED) (\S+)", line)
        alone = re.match(r"(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)", line)
        if worker:
            outcomes[worker[2]] = worker[1]
        elif alone:
            outcomes[alone[1]] = alone[2]
    counts = Counter(outcomes.values())
    content = [", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items()) or "none ended"]
    return content + [
        f"- {outcome}: {name}" for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")
    ]


def main(command: str, *arguments: str) -> int:
    """The exit status."""
    if command == "environment":
        return environment(Path(arguments[0]), arguments[1])
    if command == "facts":
        return facts(arguments[0], Path(arguments[1]))
    if command == "list-wheels":
        return list_wheels(arguments[0] if arguments else None)
    return summary(Path(arguments[0]), Path(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

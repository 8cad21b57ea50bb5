"""Checkpoints, run folders and data sets made to run a command, to fill the memory, to lead elsewhere.

What would run a command makes a file, which must not be there afterwards; what would take gigabytes is read
in a process of its own, whose peak is looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, run
from safetensors.torch import save_file

from hornet_train.engine.checkpoint import read_pointer

pytestmark = pytest.mark.faults
Command = Callable[..., tuple[int, str, str]]


class Runs:
    """Unpickled with code allowed, it runs a command."""

    def __init__(self, command: str, how: Any = os.system) -> None:
        self.command, self.how = command, how

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.how, (self.command,)


def zipped(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in {"version": b"3\n", "byteorder": b"little", **members}.items():
            file.writestr(f"a/{name}", data)
    return path


# -- pickles ------------------------------------------------------------------------------------------------


def with_code(folder: Path, bait: Path) -> Iterator[Path]:
    """Files of every kind that torch reads, each with a command in it."""
    command = f"touch {bait}"
    weights = {"w": torch.zeros(2)}
    for name, how in (("system", os.system), ("exec", exec), ("popen", subprocess.Popen)):
        message = f"import os; os.system({command!r})" if how is exec else command
        for legacy in (False, True):
            path = folder / f"{name}-{legacy}.pth"
            content = {"model": weights, "args": Runs(message, how)}
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            yield path
    inner = pickle.dumps({"model": Runs(command)}, protocol=2)
    yield zipped(folder / "bare.pth", {"data.pkl": inner})
    plain = folder / "plain.pt"
    plain.write_bytes(inner)
    yield plain
    # torch.load's own functions as a way in: __setstate__, numpy's readers, an encoder that is none
    names = (b"builtins eval", b"torch._utils _rebuild_tensor_v2.__globals__", b"torch.hub load",
             b"numpy._core.multiarray _reconstruct", b"torch.storage _load_from_bytes",
             b"operator attrgetter")  # fmt: skip
    for k, name in enumerate(names):
        program = f"__import__('os').system({command!r})".encode()
        module, function = name.split()
        text = b"X" + struct.pack("<I", len(program)) + program
        code = b"\x80\x02c" + module + b"\n" + function + b"\n" + text + b"\x85R."
        yield zipped(folder / f"name{k}.pth", {"data.pkl": code})
    tar = folder / "old.pth.tar"  # the oldest format, which torch unpacks into a folder
    with tarfile.open(tar, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors", f"../../../../{bait}"):
            member = tarfile.TarInfo(name)
            member.size = len(inner)
            file.addfile(member, io.BytesIO(inner))
    yield tar
    script = folder / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), script)
    yield script


def test_no_code_in_a_checkpoint_runs(tmp_path: Path, command: Command) -> None:
    bait, out = tmp_path / "bait", tmp_path / "out.json"
    files = list(with_code(tmp_path, bait))
    assert len(files) == 16
    for path in files:
        code, said, err = command("hornet-eval", f"checkpoint={path}", f"out={out}")
        assert code == 2, (path, said, err)
        assert str(path) in err
        assert err.count("\n") == 1
        assert not bait.exists(), path
    for key in ("init_from", "init_map"):
        more = [] if key == "init_from" else [f"init_from={files[0]}"]
        code, _, err = command("hornet-train", *TINY, f"{key}={files[0]}", *more, f"run_dir={tmp_path}/run")
        assert code == 2
        assert "never run" in err
    assert not bait.exists()
    assert not (tmp_path / "run").exists()


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def bombs(folder: Path) -> Iterator[Path]:
    """Files of at most some megabytes that stand for gigabytes, or for endless nesting."""
    start, encode = b"\x80\x02", b"c_codecs\nencode\n"
    count = b"\x8a\x05" + (6 * 10**9).to_bytes(5, "little")
    yield zipped(
        folder / "bytearray.pth", {"data.pkl": start + b"cbuiltins\nbytearray\n" + count + b"\x85R."}
    )
    doubled = encode * 26 + _text(b"a" * 100) + _text(b"latin1") + b"\x86R" + (_text(b"hex") + b"\x86R") * 25
    yield zipped(folder / "doubled.pth", {"data.pkl": start + doubled + b"."})
    scalar = b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n" + _text(b"V6000000000") + b"\x85R\x85R."
    yield zipped(folder / "scalar.pth", {"data.pkl": start + scalar})
    nested = start + b"]" * 300_000 + b"a" * 299_999 + b"."
    yield zipped(folder / "nested.pth", {"data.pkl": nested})
    torch.save({"model": {"w": torch.zeros(77)}}, folder / "small.pth")
    with zipfile.ZipFile(folder / "small.pth") as small:
        members = {name.partition("/")[2]: small.read(name) for name in small.namelist()}
    claimed = members["data.pkl"].replace(
        b"KM", b"\x8a\x05" + (10**10).to_bytes(5, "little")
    )  # of 77 numbers
    assert claimed != members["data.pkl"]
    yield zipped(folder / "claimed.pth", {**members, "data.pkl": claimed})
    torch.save({"model": {"w": torch.zeros(77)}}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    old = (folder / "legacy.pth").read_bytes()
    (folder / "legacy.pth").write_bytes(old.replace(b"KM", b"\x8a\x05" + (10**10).to_bytes(5, "little")))
    yield folder / "legacy.pth"
    with zipfile.ZipFile(folder / "deflated.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("a/version", "3\n")
        with file.open("a/data.pkl", "w") as member:
            for _ in range(300):
                member.write(bytes(10**6))
    yield folder / "deflated.pth"
    yield from tensors_bombs(folder)


def tensors_bombs(folder: Path) -> Iterator[Path]:
    def written(name: str, header: bytes, length: int | None = None, data: bytes = b"") -> Path:
        path = folder / f"{name}.safetensors"
        size = len(header) if length is None else length
        path.write_bytes(size.to_bytes(8, "little") + header + data)
        return path

    def of(**tensors: Any) -> bytes:
        return json.dumps(tensors).encode()

    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    yield written("endless", b"{", 2**63 - 1)
    yield written("large", of(**{f"t{i}": one for i in range(300_000)}))
    yield written("cut", of(a=one), data=b"1234")
    yield written("overlap", of(a=one, b=one), data=bytes(8))
    yield written("beyond", of(a={**one, "data_offsets": [0, 2**62]}), data=bytes(8))
    yield written("absurd", of(a={**one, "shape": [2**62, 2**62]}), data=bytes(8))
    yield written("kind", of(a={**one, "dtype": "F7"}), data=bytes(8))
    yield written("deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield written("metadata", of(__metadata__={"hornet_train": 3}, a=one), data=bytes(8))


READ = """
import resource, sys, time
from pathlib import Path
from hornet_train.errors import CheckpointError
from hornet_train.models.weight_files import read_weights
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in map(Path, sys.argv[1:]):
    try:
        read_weights(path)
    except CheckpointError as error:
        print(path.name, peak() - before, " ".join(str(error).split()))
    else:
        print(path.name, "was read")
"""


def test_no_checkpoint_takes_gigabytes(tmp_path: Path) -> None:
    files = list(bombs(tmp_path))
    assert sum(path.stat().st_size for path in files) < 50 * 10**6
    done = run("python", "-c", READ, *map(str, files))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(files) == 16
    for path, line in zip(files, lines, strict=True):
        name, grown, message = line.split(" ", 2)
        assert name == path.name
        assert message.startswith(f"{path}: "), line
        assert int(grown) < 1300, line  # MB; they stand for 3 to 40 GB
    assert "is compressed (" in done.stdout
    assert "as no weights do" in done.stdout
    assert "its header is to have 9,223,372,036,854,775,807 bytes, and 16,000,000 is the limit" in done.stdout


# -- run folders and step folders ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run("hornet-train", *TINY, "epochs=1", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def step(trained: Path, tmp_path: Path) -> Path:
    """The newest step folder of a copy of a run, to be changed."""
    shutil.copytree(trained, tmp_path / "run")
    name = read_pointer(tmp_path / "run" / "checkpoints", "last")
    assert name is not None
    return tmp_path / "run" / "checkpoints" / name


def put(step: Path, name: str, data: bytes) -> None:
    """Change a file and its sum, as who makes a checkpoint can."""
    (step / name).write_bytes(data)
    manifest = json.loads((step / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (step / "manifest.json").write_text(json.dumps(manifest))


def laughs(levels: int) -> bytes:
    """YAML by which `levels` lines stand for 10 ** levels texts."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join([*lines, "model: {name: *a1}", "data: {}"]).encode()


CONFIGS = {
    "aliases": (laughs(9), "it has aliases"),
    "nested": (b"model: " + b"[" * 50_000 + b"\ndata: {}", "cannot be read"),
    "mappings": (b"model: " + b"{a: " * 500 + b"1" + b"}" * 500 + b"\ndata: {}", "nested"),
    "code": (b"model: !!python/object/apply:os.system ['touch BAIT']\ndata: {}", "cannot be read"),
    "large": (b"model: {name: '" + b"x" * 2_000_000 + b"'}\ndata: {}", "250,000 is the limit"),
    "number": (b"model: {name: " + b"9" * 5000 + b"}\ndata: {}", "cannot be read"),
    "environment": (b"model: {name: '${oc.env:SECRET_OF_MINE}'}\ndata: {}", "a ${reference}"),
    "file": (b"model: {}\ndata: {name: \"${oc.decode:'x'}\"}", "a ${reference}"),
    "binary": (b"\xff\xfe\x00model", "cannot be read"),
    "keys": (b"model: {? [a, b] : 1}\ndata: {}", "cannot be read"),
    "keyed": (b"model: {1: 2}\ndata: {}", "a key that is no text"),
    "target": (b"model: {name: x, _target_: os.system}\ndata: {source: digits}", "model._target_"),
    "pretrained": (
        b"model: {name: resnet18, args: {checkpoint_path: BAIT}}\ndata: {source: digits}",
        "model.args.checkpoint_path",
    ),
}


def test_no_stored_config_runs_resolves_or_multiplies(
    step: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "tell-nobody")
    bait = tmp_path / "bait"
    for name, (data, message) in CONFIGS.items():
        put(step, "config.yaml", data.replace(b"BAIT", str(bait).encode()))
        code, out, err = command("hornet-eval", f"checkpoint={step}")
        assert code == 2, (name, out, err)
        assert message in err, name
        assert "tell-nobody" not in out + err
        assert not bait.exists()
    run_folder = step.parents[1]
    for name in ("aliases", "nested", "code", "large"):
        (run_folder / "config.yaml").write_bytes(CONFIGS[name][0])
        code, _, err = command("hornet-train", *TINY, "epochs=1", f"run_dir={run_folder}")
        assert code == 2, name
        assert f"{run_folder}/config.yaml" in err


def test_no_reference_in_the_header_of_weights_is_resolved(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "tell-nobody")
    headers = {
        "env": ('{"model": {"name": "${oc.env:SECRET_OF_MINE}"}, "data": {}}', "a ${reference}"),
        "deep": ("[" * 200_000, "nested too deeply"),
        "deeper": ('{"model": {"a": ' + "[" * 300 + "]" * 300 + '}, "data": {}}', "nested deeper than 32"),
        "odd": ('{"model": 3}', "does not hold the config"),
    }
    for name, (text, message) in headers.items():
        save_file({"w": torch.zeros(1)}, tmp_path / f"{name}.safetensors", {"hornet_train": text})
        code, out, err = command("hornet-eval", f"checkpoint={tmp_path}/{name}.safetensors", "data=digits")
        assert code == 2, name
        assert message in err
        assert "tell-nobody" not in out + err


def test_no_state_of_another_form_is_taken_over(step: Path, command: Command) -> None:
    state = json.loads((step / "state.json").read_text())
    identity = json.loads((step / "data.json").read_text())
    texts = [
        ("state.json", b"[" * 10**6), ("state.json", b"[]"), ("state.json", b'{"step": "many"}'),
        ("state.json", json.dumps({**state, "step": 1e400}).encode()),
        ("state.json", json.dumps({**state, "step": -1}).encode()),
        ("state.json", json.dumps({**state, "best": {"step": 1}}).encode()),
        ("state.json", json.dumps({**state, "bad_samples": ["x"]}).encode()),
        ("state.json", json.dumps({**state, "loss_scaler": {"scale": []}}).encode()),
        ("data.json", b"{" * 10**6), ("data.json", b'{"classes": 3}'), ("data.json", b"[]"),
        ("data.json", json.dumps({**identity, "train": {"sha256": 3}}).encode()),
        ("manifest.json", b"[" * 10**5), ("manifest.json", b" " * (10**6 + 1)),
        ("manifest.json", b'{"format": 1, "files": {"../../../etc/passwd": {"bytes": 1, "sha256": "x"}}}'),
        ("manifest.json", b'{"format": 1, "files": {"a\\u0000b": {"bytes": 1, "sha256": "x"}}}'),
        ("manifest.json", b'{"format": 1, "files": {"state.json": {"bytes": 1e999, "sha256": "x"}}}'),
    ]  # fmt: skip
    kept = {name: (step / name).read_bytes() for name in ("state.json", "data.json", "manifest.json")}
    for name, data in texts:
        for other, before in kept.items():
            (step / other).write_bytes(before)
        (step / name).write_bytes(data) if name == "manifest.json" else put(step, name, data)
        code, out, err = command("hornet-eval", f"checkpoint={step}")
        assert code == 2, (name, data[:60], out, err)
        assert name in err or str(step) in err
        assert len(err) < 2000


def test_no_device_or_pipe_is_read_for_a_file(step: Path, command: Command) -> None:
    """First by a process that can be left: it would wait, or read without end."""
    for name in ("model.safetensors", "config.yaml"):
        (step / name).unlink()
    os.mkfifo(step / "config.yaml")
    (step / "model.safetensors").symlink_to("/dev/zero")
    done = run("hornet-eval", f"checkpoint={step}", timeout=120)
    assert done.returncode == 2
    assert "cannot be read (it is not a regular file)" in done.stderr
    (step.parent / "best").unlink()
    (step.parent / "best").symlink_to("/dev/zero")
    code, _, err = command("hornet-eval", f"checkpoint={step.parents[1]}")
    assert code == 2  # it is skipped, as is what the newest step folder holds
    assert "holds no usable checkpoint" in err
    assert stat.S_ISFIFO((step / "config.yaml").stat().st_mode)


def test_no_link_in_a_run_folder_is_written_through(step: Path, tmp_path: Path, command: Command) -> None:
    mine = tmp_path / "bashrc"
    for name in (".lock", "metrics.jsonl"):
        mine.write_text("mine\n")
        folder = step.parents[1]
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(mine)
        code, _, err = command("hornet-train", *TINY, "epochs=2", "resume=force", f"run_dir={folder}")
        assert mine.read_text() == "mine\n"
        assert code == (2 if name == ".lock" else 0), err  # the metrics are replaced whole
        assert "it is a link" in err or name != ".lock"
        (folder / name).unlink()


# -- data ---------------------------------------------------------------------------------------------------


def test_a_data_set_that_is_a_script_does_not_run(tmp_path: Path, command: Command) -> None:
    bait, folder = tmp_path / "bait", tmp_path / "pictures"
    folder.mkdir()
    (folder / "pictures.py").write_text(f"open({str(bait)!r}, 'w')\nimport datasets\n")
    (folder / "__init__.py").write_text(f"open({str(bait)!r}, 'w')\n")
    for name in (str(folder), str(folder / "pictures.py"), f"{tmp_path}/./pictures"):
        code, _, err = command("hornet-train", "data=hub", f"data.name={name}", f"run_dir={tmp_path}/run")
        assert code == 2
        assert name in err
    assert not bait.exists()


def test_urls_that_are_more_than_places_are_refused(step: Path, command: Command) -> None:
    """A checkpoint may name the data that it is evaluated on."""
    config = (step / "config.yaml").read_text()
    before, _, after = config.partition("data:")
    rest = after[after.index("\nemodel") :] if "\nemodel" in after else "\n"
    for name in (
        "reference://x::file:///refs.json",
        "simplecache::https://h/x.parquet",
        "zip://a.parquet::/x.zip",
    ):
        data = f"data: {{source: hub, name: '{name}', val_split: val, image_size: 32}}"
        put(step, "config.yaml", f"{before}{data}{rest}".encode())
        code, _, err = command("hornet-eval", f"checkpoint={step}")
        assert code == 2, err
        assert f"data.name={name} cannot be read" in err

"""Weights from files: safe reading, recognising, strict loading."""

from __future__ import annotations

import argparse
import pickle

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from hornet_train.errors import CheckpointError
from hornet_train.models.weight_files import read_weights
from hornet_train.models.weights import identify, load_into, nearest


@pytest.fixture
def pico():
    return timm.create_model("hornet_pico_gf", num_classes=10)


def state_of(name: str, **arguments: object) -> dict[str, torch.Tensor]:
    return timm.create_model(name, **arguments).state_dict()


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_official_checkpoint_is_read(tmp_path, pico):
    state = pico.state_dict()
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    path = tmp_path / "checkpoint-best.pth"
    args = argparse.Namespace(lr=4e-3, model="hornet_pico_gf")
    wrapped = {f"module.{name}": tensor for name, tensor in averaged.items()}
    torch.save({"model": state, "model_ema": wrapped, "epoch": 7, "args": args}, path)
    read, origin = read_weights(path)
    assert same(read, averaged)
    assert (origin["key"], origin["ema"], origin["epoch"], origin["format"]) == (
        "model_ema",
        True,
        7,
        "pickle",
    )
    read, origin = read_weights(path, prefer="model")
    assert same(read, state)
    assert (origin["key"], origin["ema"]) == ("model", False)


@pytest.mark.parametrize("key", ["model", "module", "state_dict", ""])
def test_every_wrapping_is_read(tmp_path, pico, key):
    state = {f"_orig_mod.module.{name}": tensor for name, tensor in pico.state_dict().items()}
    torch.save({key: state, "epoch": 1} if key else state, tmp_path / "w.pt")
    read, origin = read_weights(tmp_path / "w.pt")
    assert same(read, pico.state_dict())
    assert origin["key"] == key


def test_safetensors_are_read(tmp_path, pico):
    save_file(pico.state_dict(), tmp_path / "w.safetensors", {"step": "12"})
    read, origin = read_weights(tmp_path / "w.safetensors")
    assert same(read, pico.state_dict())
    assert origin["metadata"] == {"step": "12"}


class Hostile:
    """Unpickled with code allowed, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, legacy):
    bait, path = tmp_path / "bait", tmp_path / "hostile.pth"
    content = {"model": {"w": torch.zeros(1)}, "args": Hostile(bait)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"hostile\.pth.*code, which are never run"):
        read_weights(path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(content["args"], protocol=2))
    with pytest.raises(CheckpointError, match=r"plain\.pt"):
        read_weights(plain)
    assert not bait.exists()


def test_unreadable_files_are_named_with_the_reason(tmp_path, pico):
    whole = tmp_path / "whole.pth"
    torch.save(pico.state_dict(), whole)
    save_file(pico.state_dict(), tmp_path / "whole.safetensors")
    for suffix in ("pth", "safetensors"):
        data = (tmp_path / f"whole.{suffix}").read_bytes()
        for size in (0, 9, 1000, len(data) // 2, len(data) - 1):
            cut = tmp_path / f"cut.{suffix}"
            cut.write_bytes(data[:size])
            with pytest.raises(CheckpointError, match=rf"cut\.{suffix}.*(cut short|not a complete)"):
                read_weights(cut)
    page = tmp_path / "page.pth"
    page.write_text("<html>404 not found</html>")
    with pytest.raises(CheckpointError, match=r"page\.pth.*no checkpoint"):
        read_weights(page)
    torch.save({"optimizer": {}, "epoch": 3}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: holds no weights; its keys are: optimizer, epoch"):
        read_weights(tmp_path / "odd.pth")
    torch.save(torch.arange(3), tmp_path / "map.pth")
    torch.save({"model": pico.state_dict(), "where": tmp_path}, tmp_path / "objects.pth")
    with pytest.raises(CheckpointError, match=r"the first is pathlib\S*\); save the weights alone"):
        read_weights(tmp_path / "objects.pth")
    torch.save({"model": pico.state_dict(), "best": np.float64(0.5)}, tmp_path / "numpy.pth.tar")
    assert same(read_weights(tmp_path / "numpy.pth.tar")[0], pico.state_dict())
    torch.save({**pico.state_dict(), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(CheckpointError, match=r"entries that are no tensors: epoch"):
        read_weights(tmp_path / "mixed.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no weights; it is empty"):
        read_weights(tmp_path / "empty.pth")
    for kind in (
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, device="meta"),
    ):
        torch.save({"a": torch.zeros(1), "w": kind}, tmp_path / "strange.pth")
        with pytest.raises(CheckpointError, match=r"no dense real numbers: w \("):
            read_weights(tmp_path / "strange.pth")
    with pytest.raises(CheckpointError, match="holds a Tensor"):
        read_weights(tmp_path / "map.pth")
    for name, message in (("none.pth", "no such file"), ("", "a folder"), ("whole.pth.txt", "are read from")):
        if name.endswith("txt"):
            (tmp_path / name).touch()
        with pytest.raises(CheckpointError, match=message):
            read_weights(tmp_path / name)


def test_variants_are_identified_whatever_their_head():
    for name in ("hornet_tiny_7x7", "hornet_tiny_gf", "hornet_base_gf_img384", "hornet_pico_gf"):
        with torch.device("meta"):
            state = state_of(name, num_classes=10_459 if "base" in name else 1000)
        assert identify(state) == name
    del state["norm.weight"]
    assert identify(state) == "hornet_pico_gf"  # whatever stands on the trunk
    del state["stages.0.0.norm1.bias"]
    assert identify(state) is None
    assert identify({}) is None
    assert identify({"downsample_layers.0.0.weight": torch.tensor(1.0)}) is None
    name, misfit = nearest(state)  # so that what is wrong with it can be reported
    assert (name, str(misfit)) == ("hornet_pico_gf", "missing (1): stages.0.0.norm1.bias")
    assert nearest(timm.create_model("test_convnext").state_dict()) is None


def test_strict_loading(pico):
    state = state_of("hornet_pico_gf", num_classes=10)
    assert load_into(pico, state) == []
    assert same(pico.state_dict(), state)


def test_a_misfit_is_reported_once_and_changes_nothing(pico):
    before = {name: tensor.clone() for name, tensor in pico.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(pico, state_of("hornet_pico_7x7", num_classes=10))
    message = str(caught.value)
    assert message.startswith(
        "made for another model; first keys that differ: missing (30): stages.2.0.gnconv.dwconv"
    )
    assert "and 26 more; unexpected (10): " in message
    assert message.endswith("the file holds the weights of hornet_pico_7x7")
    state = state_of("hornet_pico_gf", num_classes=10)
    state["norm.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"norm\.weight: \(3,\) in the file, \(128,\) in the model"):
        load_into(pico, state)
    assert same(pico.state_dict(), before)


def test_filters_of_another_grid_are_resized_once():
    larger = timm.create_model("hornet_pico_gf", num_classes=10, img_size=64)
    state = state_of("hornet_pico_gf", num_classes=10)
    name = "stages.2.0.gnconv.dwconv.complex_weight"
    assert load_into(larger, state) == [
        "resized 4 global filter(s) from 4 x 3 to 8 x 5",
        "resized 1 global filter(s) from 2 x 2 to 4 x 3",
    ]
    ours, theirs = larger.state_dict()[name], state[name]
    assert ours.shape == (60, 8, 5, 2)
    torch.testing.assert_close(ours[:, ::7, ::4], theirs[:, ::3, ::2])  # corners are aligned
    torch.testing.assert_close(ours[:, 0, 1], theirs[:, 0, :2].mean(dim=1))
    with pytest.raises(CheckpointError, match="misshapen"):
        load_into(larger, state, resize_filters=False)


def test_the_head_is_mapped_or_begun_anew_only_when_asked(pico):
    state = state_of("hornet_pico_gf", num_classes=50)
    rows = torch.randperm(50)[:10]
    with pytest.raises(CheckpointError, match="only the head differs"):
        load_into(pico, state)
    assert load_into(pico, state, head_rows=rows) == ["took 10 of the head's 50 rows by the class map"]
    assert torch.equal(pico.head.weight, state["head.weight"][rows])
    assert torch.equal(pico.head.bias, state["head.bias"][rows])
    for odd in (rows[:0], rows[None], rows.float(), rows > 3, rows[:5], rows - 50, rows[:1].expand(10)):
        with pytest.raises(CheckpointError, match="class map"):
            load_into(pico, state, head_rows=odd)
    with pytest.raises(CheckpointError, match=r"names 10 rows 3\.\.50, the file's head has 50"):
        load_into(pico, state, head_rows=torch.tensor([50, *range(3, 12)]))
    fresh = pico.head.weight.clone()
    (note,) = load_into(pico, state, allow_new_head=True)
    assert "the head of 10 classes starts from its initialisation; the file's has 50" in note
    assert torch.equal(pico.head.weight, fresh)
    assert torch.equal(pico.norm.weight, state["norm.weight"])
    headless = timm.create_model("hornet_pico_gf", num_classes=0)
    assert load_into(headless, state, allow_new_head=True) == ["left out the file's head of 50 classes"]

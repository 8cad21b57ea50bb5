"""The texts of an ONNX file, read without the package."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hornet_train.config.onnx_texts import onnx_texts


def file_with(texts: dict[str, str]) -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [300], [0.5] * 300)
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], [weights]
    )
    model = helper.make_model(graph, producer_name="test")
    helper.set_model_props(model, texts)
    return model.SerializeToString()


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=5))
def test_they_are_the_packages(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(file_with(texts))
    assert onnx_texts(path) == {one.key: one.value for one in onnx.load(path).metadata_props} == texts


def test_every_cut_is_noticed_or_harmless(tmp_path: Path) -> None:
    """A file that was cut says so, unless it was cut between two of its parts."""
    whole, path = file_with({"classes": "[1, 2]", "licence": "mit"}), tmp_path / "m.onnx"
    refused = 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            found = onnx_texts(path)
        except ValueError:
            refused += 1
        else:
            assert found.items() <= {"classes": "[1, 2]", "licence": "mit"}.items()
    assert refused > len(whole) // 7 - 5


@pytest.mark.parametrize("content", [b"\xff" * 40, b"\x89PNG\r\n\x1a\n" + bytes(40), b"{}" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ONNX|early"):
        onnx_texts(path)

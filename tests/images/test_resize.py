"""Resizing against torch's own functions, bit for bit, and within its memory."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.images import resample as module
from hornet_train.images import resize as sizes
from hornet_train.images.layout import Box, Pixels, image_of
from hornet_train.images.resample import resample
from hornet_train.images.resize import resize, resize_and_crop

BY_TORCH = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "plain": torch.ops.aten.upsample_bilinear2d.default,
}


def by_torch(pixels: Pixels, size: tuple[int, int], filter: str) -> Pixels:
    batch = torch.from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)
    return BY_TORCH[filter](batch, size, False)[0].permute(1, 2, 0).numpy()


@st.composite
def parts(draw: Any, height: int, width: int) -> Box:
    """A box of at least a pixel within so many rows and columns."""
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))


def guarded(kept: list[tuple[Any, int]]) -> SimpleNamespace:
    """numpy, whose new arrays have other bytes around them, which are kept."""

    def empty(shape: Any, dtype: Any = np.float64) -> Any:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        memory = np.full(size + 512, 0xA5, dtype=np.uint8)
        kept.append((memory, size))
        return memory[256 : 256 + size].view(dtype).reshape(shape)

    return SimpleNamespace(empty=empty, int16=np.int16, int64=np.int64, uint8=np.uint8)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from([7, 60, 400]), st.sampled_from(sorted(BY_TORCH)), st.booleans())
def test_any_part_of_any_box_is_torchs(data: st.DataObject, most: int, filter: str, hard: bool) -> None:
    height, width, *size = data.draw(st.lists(st.integers(1, most), min_size=4, max_size=4))
    box, part = data.draw(parts(height, width)), data.draw(parts(*size))
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    if hard:  # black and white, where a bicubic filter overshoots
        pixels = (pixels > 127) * np.uint8(255)
    kept: list[tuple[Any, int]] = []
    module.Axis.of.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "np", guarded(kept))
        how = {"cubic": filter == "bicubic", "antialias": filter != "plain"}
        ours = resample(pixels, box, (size[0], size[1]), part, **how)
    module.Axis.of.cache_clear()
    inside = pixels[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    whole = by_torch(inside, (size[0], size[1]), filter)
    assert np.array_equal(ours, whole[part[0] : part[0] + part[2], part[1] : part[1] + part[3]])
    assert len(kept) >= 7  # both axes may be alike
    for memory, used in kept:
        assert (memory[:256] == 0xA5).all()
        assert (memory[256 + used :] == 0xA5).all()


AT_THE_END = """
import ctypes, mmap, sys
import numpy as np
from hornet_train.images.resample import resample
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
for height, width in ((1, 1), (3, 5), (16, 16), (17, 31), (40, 9), (33, 64)):
    used = height * width * 3
    pages = -(-used // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        assert libc.mprotect(ctypes.c_void_p(base + page * PAGE), PAGE, 0) == 0
    for begin in (PAGE, (pages + 1) * PAGE - used):
        image = np.frombuffer(memory, np.uint8, used, begin).reshape(height, width, 3)
        for size in ((1, 1), (7, 50), (64, 3)):
            for cubic, antialias in ((False, True), (True, True), (False, False)):
                resample(
                    image, (0, 0, height, width), size, (0, 0, *size), cubic=cubic, antialias=antialias
                )
print("read within", flush=True)
import os
os._exit(0)
"""


def test_nothing_beside_the_image_is_read() -> None:
    """Pages before and behind it cannot be read: the process would end."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=False)
    assert done.stdout == "read within\n", done.stderr


@pytest.mark.parametrize(
    ("image", "box", "size"),
    [
        (torch.zeros(1, 9, 9, dtype=torch.uint8), None, (5, 5)),
        (torch.zeros(4, 9, 9, dtype=torch.uint8), None, (5, 5)),
        (torch.zeros(3, 9, 9), None, (5, 5)),
        (torch.zeros(3, 0, 9, dtype=torch.uint8), None, (5, 5)),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), None, (0, 5)),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), (0, 0, 0, 4), (5, 5)),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), (-1, 0, 4, 4), (5, 5)),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), (5, 0, 5, 4), (5, 5)),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), (0, 6, 4, 4), (5, 5)),
    ],
)
def test_what_the_loops_are_not_made_for_is_refused(
    image: torch.Tensor, box: Box | None, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"an image to resize is uint8 \(3, H, W\)|has no box"):
        resize(image, size, "bicubic", box)


@pytest.mark.parametrize("how", [{}, {"interpolation": "bilinear", "antialias": False}])
@pytest.mark.parametrize("shape", [(2, 900), (900, 2)])
def test_strips_of_pixels_go_another_way_to_the_same(
    shape: tuple[int, int], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8))
    known, cut = resize(image, (20, 30), **how), resize_and_crop(image, (20, 30), (3, 4, 10, 11), **how)
    assert torch.equal(cut, known[:, 3:13, 4:15])
    monkeypatch.setattr(sizes, "_LONGEST", 100)
    assert torch.equal(resize(image, (20, 30), **how), known)
    again = resize_and_crop(image, (20, 30), (3, 4, 10, 11), **how)
    assert torch.equal(again, cut)
    assert again.permute(1, 2, 0).is_contiguous()
    monkeypatch.setattr(sizes, "_MAX_INTERMEDIATE", 1000)  # columns first where they are long
    apart = (resize(image, (20, 30), **how).int() - known.int()).abs().max().item()
    assert apart <= (0 if shape[0] == 2 else 6)


def test_bicubic_without_antialiasing_is_refused() -> None:
    with pytest.raises(ValueError, match="antialias=False is for bilinear"):
        resize(torch.zeros(3, 9, 9, dtype=torch.uint8), (5, 5), "bicubic", antialias=False)

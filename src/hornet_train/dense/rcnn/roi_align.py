"""Features of regions of interest: average RoIAlign, aligned, with as many samples as a bin has pixels.

    hornet::roi_align(maps, boxes, image, side)    bins of regions of float32 maps, by compiled loops on a CPU

Elsewhere torchvision's operator does the same. Its backward pass on GPUs adds in no fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align as of_torchvision

from hornet_train.models.kernels import openmp

_AVAILABLE = openmp.available()


def roi_align(maps_BCHW: Tensor, rois_R5: Tensor, side: int, scale: float) -> Tensor:
    """The mean of the map in each of `side` x `side` bins of each region.

    Samples lie in the middle of the cells of a grid in the bin, ceil(its size) of them along an axis, and are
    interpolated bilinearly; those of more than a pixel outside the map count 0 (Mask R-CNN, He et al., ICCV
    2017, with the half pixel that later code corrected). No gradient goes to the boxes.

    Args:
        maps_BCHW: of any float type.
        rois_R5: the image's number in the batch, and corners x1, y1, x2, y2 in the image's pixels.
        side: bins along an axis.
        scale: pixels of the map that a pixel of the image has, 1 over the stride.

    Returns:
        (R, C, side, side), of the type of the maps.
    """
    rois_R5 = rois_R5.detach().float()
    if maps_BCHW.device.type != "cpu" or not _AVAILABLE or not len(rois_R5):
        # in float32: bfloat16 has whole pixels up to 256 alone
        found: Tensor = of_torchvision(maps_BCHW.float(), rois_R5, side, scale, 0, aligned=True)
        return found.to(maps_BCHW.dtype)
    corners_R4 = (rois_R5[:, 1:] * scale - 0.5).contiguous()
    bins: Tensor = align(maps_BCHW.float(), corners_R4, rois_R5[:, 0].long().contiguous(), side)
    return bins.to(maps_BCHW.dtype)


@torch.library.custom_op("hornet::roi_align", mutates_args=(), device_types="cpu")
def align(maps_BCHW: Tensor, boxes_R4: Tensor, image_R: Tensor, side: int) -> Tensor:
    """Bins of boxes in the pixels of the maps, the first of whose centres is 0; float32, channels_last."""
    from hornet_train.dense.rcnn.roi_align_loops import forward_loop

    maps_BCHW = maps_BCHW.contiguous(memory_format=torch.channels_last)
    bins_RCSS = _empty_bins(maps_BCHW, boxes_R4, side)
    _run(forward_loop(), maps_BCHW, boxes_R4, image_R, bins_RCSS)
    return bins_RCSS


@torch.library.custom_op("hornet::roi_align_gradient", mutates_args=(), device_types="cpu")
def align_gradient(
    gradient_RCSS: Tensor, boxes_R4: Tensor, image_R: Tensor, images: int, height: int, width: int
) -> Tensor:
    """The gradient of the maps, float32, channels_last."""
    from hornet_train.dense.rcnn.roi_align_loops import backward_loop

    gradient_RCSS = gradient_RCSS.contiguous(memory_format=torch.channels_last)
    maps_BCHW = torch.zeros((images, height, width, gradient_RCSS.shape[1])).permute(0, 3, 1, 2)
    _run(backward_loop(), maps_BCHW, boxes_R4, image_R, gradient_RCSS)
    return maps_BCHW


def _empty_bins(maps_BCHW: Tensor, boxes_R4: Tensor, side: int) -> Tensor:
    shape = (len(boxes_R4), side, side, maps_BCHW.shape[1])
    return maps_BCHW.new_empty(shape, dtype=torch.float32).permute(0, 3, 1, 2)


def _run(loop: int, maps_BCHW: Tensor, boxes_R4: Tensor, image_R: Tensor, bins_RCSS: Tensor) -> None:
    from hornet_train.dense.rcnn.roi_align_loops import Alignment, scratch_floats

    images, channels, height, width = maps_BCHW.shape
    side = bins_RCSS.shape[2]
    floats = -(-scratch_floats(side, height, width, channels) // 16) * 16
    memory = openmp.scratch(4 * floats)
    arguments = Alignment(
        maps=maps_BCHW.data_ptr(),
        boxes=boxes_R4.data_ptr(),
        image=image_R.data_ptr(),
        bins=bins_RCSS.data_ptr(),
        images=images,
        height=height,
        width=width,
        channels=channels,
        regions=len(boxes_R4),
        side=side,
        scratch=memory.ctypes.data,
        scratch_floats=floats,
    )
    openmp.run(loop, arguments)


@align.register_fake
def _(maps_BCHW: Tensor, boxes_R4: Tensor, _image_R: Tensor, side: int) -> Tensor:
    return _empty_bins(maps_BCHW, boxes_R4, side)


@align_gradient.register_fake
def _(
    gradient_RCSS: Tensor, _boxes_R4: Tensor, _image_R: Tensor, images: int, height: int, width: int
) -> Tensor:
    shape = (images, height, width, gradient_RCSS.shape[1])
    return gradient_RCSS.new_empty(shape, dtype=torch.float32).permute(0, 3, 1, 2)


def _save_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    maps_BCHW, boxes_R4, image_R, _ = inputs
    ctx.save_for_backward(boxes_R4, image_R)
    ctx.extents = (maps_BCHW.shape[0], *maps_BCHW.shape[2:])


def _backward(ctx: Any, gradient_RCSS: Tensor) -> tuple[Tensor | None, ...]:
    boxes_R4, image_R = ctx.saved_tensors
    return align_gradient(gradient_RCSS, boxes_R4, image_R, *ctx.extents), None, None, None


align.register_autograd(_backward, setup_context=_save_for_backward)

"""HorNet (arXiv 2207.14284, section 3.2): stages of gnConv blocks, under timm's model contract.

State-dict names and shapes are the published ones, so official weights load unconverted.
Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from collections.abc import Sequence

import torch
from timm.models._features import feature_take_indices  # private, but every model of timm's uses it
from torch import Tensor, nn

from hornet_train.models.block import Block
from hornet_train.models.contract import TimmContract
from hornet_train.models.fusing import fuse_block_, fuse_downsampler_
from hornet_train.models.init import init_layer_
from hornet_train.models.layers import LayerNorm
from hornet_train.models.mixers import Mixer
from hornet_train.models.options import (
    checked_depths,
    image_size,
    one_a_stage,
    pool,
    probability,
    require_size,
    whole_number,
)
from hornet_train.models.spectrum import grid_of
from hornet_train.models.stages import build_downsamplers, build_stages

torch.fx.wrap("require_size")  # one node for symbolic tracing, which cannot follow its comparison


class HorNet(TimmContract):
    """Backbone and classification head: patch stem, stages with 2x downsampling between, pool, LN, linear.

    `orders` and `mixers` take one value for all stages, or one a stage.

    Args:
        num_classes: outputs of the head; 0: no head, `forward` gives the pooled, normalised features.
        in_chans: channels of the images.
        drop_rate: dropout before the head.
        drop_path_rate: drop path of the last block; it grows linearly from 0 over all blocks.
        global_pool: "avg", "max", "avgmax" (their mean), or "" to keep the map: norm and head then act on
            each pixel.
        img_size: pixels, one number for a square or (height, width): the size that the global filters are
            stored for. Any other size runs too, and resizes them in every forward.
        stem_stride: kernel and stride of the stem's convolution.
        depths: blocks of each stage.
        dim: C, the width of the first stage; each further stage doubles it.
        orders: gnConv's order.
        scale: 1 / alpha of eq. (3.3).
        mixers: "7x7" or any other odd kernel, "gf", "pool", or a function of the width; see `build_mixer`.
        gating: "recursive" for gnConv; "none" or "se" put a plain depthwise convolution in its place, without
            or with squeeze-and-excitation; see `PlainConv`.
        isotropic: all stages have the first one's width and resolution, and the stem has no norm.
        layer_scale_init: initial layer scale; 0 or less: none.
        head_init_scale: factor on the head's initial weight and bias.
        output_norms: a norm for each stage's output, as published for dense prediction: norm0 .. norm3, which
            `forward_intermediates(norm=True)` applies, and so timm's features_only. A classifier has no use
            for them: they get no gradient, which DDP refuses.
        device, dtype: of the parameters.

    Raises:
        ValueError: options that do not fit each other; the message says what would.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        img_size: int | tuple[int, int] = 224,
        stem_stride: int = 4,
        depths: Sequence[int] = (2, 3, 18, 2),
        dim: int = 64,
        orders: int | Sequence[int] = (2, 3, 4, 5),
        scale: float = 1 / 3,
        mixers: Mixer | Sequence[Mixer] = "7x7",
        gating: str = "recursive",
        isotropic: bool = False,
        layer_scale_init: float = 1e-6,
        head_init_scale: float = 1.0,
        output_norms: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(isotropic, bool):
            raise ValueError(f"isotropic is true or false, not {isotropic!r}")
        self.depths = checked_depths(depths)
        self.in_chans, dim, stem_stride = (
            whole_number("in_chans", in_chans),
            whole_number("dim", dim),
            whole_number("stem_stride", stem_stride),
        )
        self.drop_rate, self.head_init_scale = probability("drop_rate", drop_rate), head_init_scale
        self.isotropic, self.output_norms = isotropic, output_norms
        stages = len(self.depths)
        growth = [1 if isotropic else 2**stage for stage in range(stages)]
        widths = [dim * factor for factor in growth]
        self.strides = [stem_stride * factor for factor in growth]
        self.total_stride = self.strides[-1]
        self.img_size = size = image_size(img_size, self.total_stride)
        self.num_features = self.head_hidden_size = widths[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (width, stride) in enumerate(zip(widths, self.strides, strict=True))
        ]

        self.downsample_layers = nn.ModuleList(
            build_downsamplers(
                widths,
                in_chans=self.in_chans,
                stem_stride=stem_stride,
                isotropic=isotropic,
                device=device,
                dtype=dtype,
            )
        )
        self.stages = nn.ModuleList(
            build_stages(
                self.depths,
                widths,
                one_a_stage("orders", orders, stages),
                one_a_stage("mixers", mixers, stages),
                [grid_of(size, stride) for stride in self.strides],
                gating=gating,
                scale=scale,
                drop_path_rate=probability("drop_path_rate", drop_path_rate),
                layer_scale_init=layer_scale_init,
                device=device,
                dtype=dtype,
            )
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=1e-6, device=device, dtype=dtype)
        for stage, width in enumerate(widths if output_norms else ()):
            self.add_module(f"norm{stage}", LayerNorm(width, device=device, dtype=dtype))
        self.apply(init_layer_)
        self.reset_classifier(num_classes, global_pool)

    @torch.jit.unused
    def fuse(self, img_size: int | tuple[int, int] | None = None) -> "HorNet":
        """Make this trained model one for inference alone, in place: fewer passes, equal but for rounding.

        Layer scale goes into the projections, 1 / alpha into the depthwise weights (or the global filter's
        last norm), the norms' weights and biases into the layers behind them, and the global filters become
        what is fastest for images of one size. Other sizes still run. The state dict is no longer the
        published one. The norms of the outputs, features among them, stay.

        Args:
            img_size: pixels of the images to come, one number for a square; None: those that it was made for.

        Returns:
            The model itself, in evaluation mode, without gradients.
        """
        for stage in self.stages:
            for block in stage.children():
                if isinstance(block, Block):
                    fuse_block_(block)
        for downsample in self.downsample_layers:
            fuse_downsampler_(downsample)
        for filter_, (height, width) in self._maps(self.img_size if img_size is None else img_size):
            filter_.fix(height, width)
        return self.eval().requires_grad_(False)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's output, not normalised. Shape in: (B, in_chans, H, W); out: (B, 8C, H/32, W/32).

        Sizes between multiples of the stride are rounded down by each convolution.

        Raises:
            ValueError: an image smaller than the total stride.
        """
        x = require_size(x, self.total_stride)
        for downsample, stage in zip(self.downsample_layers, self.stages):  # noqa: B905 - TorchScript
            x = stage(downsample(x))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, norm, dropout, linear. Shape out: (B, classes), or (B, classes, H, W) with global_pool "".

        Args:
            x: what `forward_features` gave.
            pre_logits: stop before the linear layer.
        """
        x = self.norm(pool(x, self.global_pool))
        x = nn.functional.dropout(x, self.drop_rate, self.training)
        if not pre_logits:
            x = self.head(x)
        return x.permute(0, 3, 1, 2) if self.global_pool == "" else x

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The stages' outputs, for timm's features_only. Out: a list of (B, c, h, w), or (last, list).

        Args:
            x: images (B, in_chans, H, W).
            indices: the last n stages, or these stages (negative from the end); None: all.
            norm: normalise the outputs: each by its own norm where the model has output_norms, else the last
                stage's by the final norm.
            stop_early: do not run stages behind the last one asked for.
            output_fmt: NCHW, no other.
            intermediates_only: give the list alone.

        Raises:
            ValueError: another output_fmt, or too small an image.
            AssertionError: a stage that the model does not have (timm's own check).
        """
        if output_fmt != "NCHW":
            raise ValueError(f"features are NCHW only, not {output_fmt}")
        take, last = feature_take_indices(len(self.stages), indices)
        x = require_size(x, self.total_stride)
        outputs: list[Tensor] = []
        for index, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages)  # noqa: B905 - TorchScript
        ):
            if index <= last or not (stop_early or intermediates_only):
                x = stage(downsample(x))
                if index in take:
                    outputs.append(self._normalised(x, index) if norm else x)
        if intermediates_only:
            return outputs
        return x, outputs

    @torch.jit.unused
    def _normalised(self, x_BCHW: Tensor, stage: int) -> Tensor:
        """A stage's output by its own norm where there is one, the last stage's by the final norm."""
        if self.output_norms:
            out: Tensor = self.get_submodule(f"norm{stage}")(x_BCHW)
            return out
        if stage < len(self.depths) - 1:
            return x_BCHW
        last: Tensor = self.norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return last

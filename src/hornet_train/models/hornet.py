"""HorNet (arXiv 2207.14284, section 3.2): four stages of gnConv blocks, under timm's model contract.

State-dict names and shapes are the published ones, so official weights load unconverted.
Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hornet_train.models.gnconv import GnConv, Mixer
from hornet_train.models.layer_ids import layer_id, num_layer_ids
from hornet_train.models.layers import LayerNorm


class Block(nn.Module):
    """x += DropPath(gamma1 * gnConv(LN(x)));  x += DropPath(gamma2 * W2 GELU(W1 LN(x))).

    Args:
        dim: C.
        gnconv: the spatial operator, (B, C, H, W) -> (B, C, H, W).
        drop_path: probability of dropping a residual branch of a sample in training.
        layer_scale_init: initial value of gamma1 and gamma2; 0 or less: no layer scale, no such parameters.
        mlp_ratio: width of the MLP over C.
    """

    gamma1: nn.Parameter | None
    gamma2: nn.Parameter | None

    def __init__(
        self,
        dim: int,
        gnconv: nn.Module,
        *,
        drop_path: float = 0.0,
        layer_scale_init: float = 1e-6,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        for name in ("gamma1", "gamma2"):
            gamma = nn.Parameter(torch.full((dim,), layer_scale_init)) if layer_scale_init > 0 else None
            self.register_parameter(name, gamma)
        self.norm1 = LayerNorm(dim)
        self.gnconv = gnconv
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, mlp_ratio * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(mlp_ratio * dim, dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        mixed: Tensor = self.gnconv(self.norm1(x_BCHW))
        if self.gamma1 is not None:
            mixed = mixed * self.gamma1.view(-1, 1, 1)
        x_BCHW = x_BCHW + self.drop_path(mixed)

        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        mlp_BHWC: Tensor = self.pwconv2(self.act(self.pwconv1(self.norm2(x_BHWC))))
        if self.gamma2 is not None:
            mlp_BHWC = mlp_BHWC * self.gamma2
        out: Tensor = x_BCHW + self.drop_path(mlp_BHWC.permute(0, 3, 1, 2))
        return out


class HorNet(nn.Module):
    """Backbone and classification head: patch stem, stages with 2x downsampling between, pool, LN, linear.

    Args:
        num_classes: outputs of the head; 0: no head, `forward` gives the pooled, normalised features.
        in_chans: channels of the images.
        drop_rate: dropout before the head.
        drop_path_rate: drop path of the last block; it grows linearly from 0 over all blocks.
        global_pool: "avg", or "" to keep the map: norm and head then act on each pixel.
        stem_stride: kernel and stride of the stem's convolution.
        depths: blocks of each stage.
        dim: C, the width of the first stage; each further stage doubles it.
        orders: gnConv's order of each stage.
        scale: 1 / alpha of eq. (3.3).
        mixers: the mixer of each stage: "7x7", "gf", an odd kernel size, or a function of the width.
        grids: the stored GF grid of each stage, read where its mixer is "gf".
        layer_scale_init: initial layer scale; 0 or less: none.
        head_init_scale: factor on the head's initial weight and bias.

    Raises:
        ValueError: options that do not fit each other, told with what would.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        stem_stride: int = 4,
        depths: Sequence[int] = (2, 3, 18, 2),
        dim: int = 64,
        orders: Sequence[int] = (2, 3, 4, 5),
        scale: float = 1 / 3,
        mixers: Sequence[Mixer] = ("7x7", "7x7", "7x7", "7x7"),
        grids: Sequence[tuple[int, int]] = ((56, 29), (28, 15), (14, 8), (7, 4)),
        layer_scale_init: float = 1e-6,
        head_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not len(depths) == len(orders) == len(mixers) == len(grids) >= 1:
            raise ValueError(
                "depths, orders, mixers and grids need one entry a stage; they have "
                f"{len(depths)}, {len(orders)}, {len(mixers)} and {len(grids)}"
            )
        if min(depths) < 1 or stem_stride < 1 or in_chans < 1 or num_classes < 0:
            raise ValueError(
                "every depth, stem_stride and in_chans must be at least 1 and num_classes at least 0, not "
                f"{tuple(depths)}, {stem_stride}, {in_chans} and {num_classes}"
            )
        if not 0.0 <= drop_path_rate < 1.0:
            raise ValueError(f"drop_path_rate is a probability below 1, not {drop_path_rate}")
        self.in_chans, self.depths = in_chans, tuple(depths)
        self.drop_rate, self.head_init_scale = drop_rate, head_init_scale
        self.grad_checkpointing = False
        widths = [dim * 2**stage for stage in range(len(depths))]
        self.total_stride = stem_stride * 2 ** (len(depths) - 1)
        self.num_features = self.head_hidden_size = widths[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": stem_stride * 2**stage, "module": f"stages.{stage}"}
            for stage, width in enumerate(widths)
        ]

        stem = nn.Sequential(nn.Conv2d(in_chans, dim, stem_stride, stride=stem_stride), LayerNorm(dim))
        self.downsample_layers = nn.ModuleList([stem])
        for width in widths[:-1]:
            self.downsample_layers.append(
                nn.Sequential(LayerNorm(width), nn.Conv2d(width, 2 * width, 2, stride=2))
            )
        self.stages = nn.ModuleList()
        before, last = 0, max(sum(depths) - 1, 1)
        for width, depth, order, mixer, grid in zip(widths, depths, orders, mixers, grids, strict=True):
            blocks = (
                Block(
                    width,
                    GnConv(width, order=order, mixer=mixer, grid=grid, scale=scale),
                    drop_path=drop_path_rate * (before + index) / last,
                    layer_scale_init=layer_scale_init,
                )
                for index in range(depth)
            )
            self.stages.append(nn.Sequential(*blocks))
            before += depth
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.apply(_init_weights)
        self.reset_classifier(num_classes, global_pool)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """The last stage's output, not normalised. Shape in: (B, in_chans, H, W); out: (B, 8C, H/32, W/32).

        Sizes between multiples of the stride are rounded down by each convolution.

        Raises:
            ValueError: an image smaller than the total stride.
        """
        self._check_size(x_BCHW)
        for stage in range(len(self.depths)):
            x_BCHW = self._forward_stage(stage, x_BCHW)
        return x_BCHW

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, norm, dropout, linear. Shape out: (B, classes), or (B, classes, H, W) with global_pool "".

        Args:
            x_BCHW: what `forward_features` gave.
            pre_logits: stop before the linear layer.
        """
        x = x_BCHW.mean(dim=(2, 3)) if self.global_pool == "avg" else x_BCHW.permute(0, 2, 3, 1)
        x = nn.functional.dropout(self.norm(x), self.drop_rate, self.training)
        if not pre_logits:
            x = self.head(x)
        return x if x.ndim == 2 else x.permute(0, 3, 1, 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, classes)."""
        return self.forward_head(self.forward_features(x_BCHW))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The stages' outputs, for timm's features_only. Out: a list of (B, c, h, w), or (last, list).

        Args:
            x: images (B, in_chans, H, W).
            indices: the last n stages, or these stages (negative from the end); None: all.
            norm, output_fmt: must stay as they are: the stages' outputs have no norm of their own.
            stop_early: do not run stages behind the last one asked for.
            intermediates_only: give the list alone.

        Raises:
            ValueError: an option the model cannot honour, a stage it does not have, or too small an image.
        """
        count = len(self.depths)
        if norm or output_fmt != "NCHW":
            raise ValueError(
                f"features are un-normed and NCHW only, not norm={norm}, output_fmt={output_fmt!r}"
            )
        last_n = count if indices is None else indices
        wanted = range(count - last_n, count) if isinstance(last_n, int) else last_n
        if not wanted or not all(-count <= index < count for index in wanted):
            raise ValueError(f"no such stages: {indices}; the model has {count}")
        take = [index % count for index in wanted]
        self._check_size(x)
        outputs = []
        for stage in range(max(take) + 1 if stop_early or intermediates_only else count):
            x = self._forward_stage(stage, x)
            if stage in take:
                outputs.append(x)
        return outputs if intermediates_only else (x, outputs)

    def get_classifier(self) -> nn.Module:
        """The linear head; an identity where num_classes is 0."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a fresh head, on the device and in the dtype of the norm before it.

        Raises:
            ValueError: an unknown `global_pool`.
        """
        if global_pool is not None:
            if global_pool not in ("avg", ""):
                raise ValueError(f'global_pool is "avg" or "" (no pooling), not {global_pool!r}')
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            like = self.norm.weight
            head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            _init_weights(head)
            with torch.no_grad():
                head.weight.mul_(self.head_init_scale)
                head.bias.mul_(self.head_init_scale)
            self.head = head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's parameter groups in order of depth; by stage if `coarse`, else by block."""
        stages = [(r"^downsample_layers\.(\d+)", None), (r"^stages\.(\d+)", None)]
        blocks = [(r"^downsample_layers\.(\d+)", (0,)), (r"^stages\.(\d+)\.(\d+)", None)]
        return {"stem": r"^downsample_layers\.0", "blocks": stages if coarse else blocks}

    def no_weight_decay(self) -> set[str]:
        """Nothing is exempt by name: 1-D parameters are by shape, and filters are decayed as published."""
        return set()

    def layer_id(self, name: str) -> int:
        """The layer-decay id of the parameter `name`; see `hornet_train.models.layer_ids`."""
        return layer_id(name, self.depths)

    @property
    def num_layer_ids(self) -> int:
        """One more than the largest layer-decay id."""
        return num_layer_ids(self.depths)

    def _forward_stage(self, stage: int, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.downsample_layers[stage](x_BCHW)
        if not self.grad_checkpointing:
            out: Tensor = self.stages[stage](x_BCHW)
            return out
        for block in self.stages[stage].children():
            x_BCHW = checkpoint(block, x_BCHW, use_reentrant=False)
        return x_BCHW

    def _check_size(self, x_BCHW: Tensor) -> None:
        height, width = x_BCHW.shape[-2:]
        if min(height, width) < self.total_stride:
            least = f"{self.total_stride} x {self.total_stride}"
            raise ValueError(f"images of {height} x {width} are too small: the model's stride needs {least}")


def _init_weights(module: nn.Module) -> None:
    """Weights of convolutions and linear layers from a normal of std 0.02 (truncated at +-2), biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

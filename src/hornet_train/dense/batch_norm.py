"""Batch norm over all processes of a run, on GPUs and on CPUs, with the names of nn.BatchNorm2d."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics, in training, are those of the micro-batches of all processes together.

    One process, and evaluation, have plain batch norm. GPUs have torch's synchronised norm. That refuses
    CPUs, and DDP any model on CPUs that holds one: there this one sums over the processes by itself. Each
    process may have another number of images.

    Args:
        channels: C.
        eps, momentum, device, dtype: as nn.BatchNorm2d.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, momentum, device=device, dtype=dtype)
        self.process_group = None  # torch's synchronised norm looks for it: all processes

    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
        if not self.training or alone:
            return super().forward(x_BCHW)
        if x_BCHW.device.type != "cpu":
            out_BCHW: Tensor = nn.SyncBatchNorm.forward(self, x_BCHW)  # type: ignore[arg-type]
            return out_BCHW
        y_BCHW, mean_C, var_C, count = _Synchronised.apply(x_BCHW, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(var_C * (count / (count - 1)), self.momentum)  # unbiased, as torch's
        out: Tensor = y_BCHW
        return out


class SyncBatchNormAct2d(SyncBatchNorm2d):
    """The same for timm's batch norm with an activation.

    Args:
        norm: timm's, whose activation this one takes over.
    """

    def __init__(self, norm: BatchNormAct2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum or 0.0)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        y_BCHW: Tensor = self.act(self.drop(super().forward(x_BCHW)))
        return y_BCHW


def synchronise_norms(model: nn.Module) -> None:
    """Batch norms of a model become norms over all processes, in place, with the same names and values."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if not isinstance(norm, nn.BatchNorm2d) or norm.momentum is None or not norm.affine:
                continue
            if type(norm) is nn.BatchNorm2d:
                synchronised = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
            elif type(norm) is BatchNormAct2d:
                synchronised = SyncBatchNormAct2d(norm)
            else:
                continue
            synchronised.load_state_dict(norm.state_dict())
            setattr(parent, name, synchronised.train(norm.training))


class _Synchronised(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over all processes; sums are in at least float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        wide, channels = x.to(torch.promote_types(x.dtype, torch.float32)), x.shape[1]
        sums = torch.zeros(2 * channels + 1, dtype=torch.float64)
        sums[:channels] = wide.sum((0, 2, 3), dtype=torch.float64)
        sums[channels:-1] = wide.double().square().sum((0, 2, 3))
        sums[-1] = x.numel() // channels
        dist.all_reduce(sums)
        count = sums[-1].clamp_min(1)
        mean = sums[:channels] / count
        var = (sums[channels:-1] / count - mean.square()).clamp_min(0)
        if count < 2:
            raise ValueError("batch norm needs more than 1 value per channel when training")
        mean, var, inverse = (one.to(wide.dtype) for one in (mean, var, (var + eps).rsqrt()))
        normed = (wide - mean.view(1, -1, 1, 1)) * inverse.view(1, -1, 1, 1)
        ctx.save_for_backward(normed.to(x.dtype), weight, inverse, count)
        ctx.mark_non_differentiable(mean, var, count)
        y = torch.addcmul(bias.view(1, -1, 1, 1), normed, weight.view(1, -1, 1, 1)).to(x.dtype)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normed, weight, inverse, count = ctx.saved_tensors
        wide, channels = gradient.to(inverse.dtype), gradient.shape[1]
        for_bias = wide.sum((0, 2, 3))
        for_weight = (wide * normed).sum((0, 2, 3))
        sums = torch.cat((for_bias, for_weight)).double()
        dist.all_reduce(sums)
        means = (sums / count).to(wide.dtype)
        above = wide - means[:channels].view(1, -1, 1, 1) - normed * means[channels:].view(1, -1, 1, 1)
        for_x = above * (weight * inverse).view(1, -1, 1, 1)
        return for_x.to(gradient.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype), None


class ConvNorm(nn.Module):
    """A convolution that keeps height and width, and batch norm and ReLU behind it; or the convolution alone.

    Named as in the published checkpoints: `conv` and `bn`.

    Args:
        in_channels, out_channels, kernel: of the convolution.
        norm: whether norm and ReLU follow; the convolution has a bias where they do not.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, bias=not norm, device=device, dtype=dtype
        )
        self.bn = SyncBatchNorm2d(out_channels, device=device, dtype=dtype) if norm else nn.Identity()
        self.norm = norm

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, C_in, H, W); out: (B, C_out, H, W)."""
        y_BCHW: Tensor = self.bn(self.conv(x_BCHW))
        return F.relu(y_BCHW, inplace=True) if self.norm else y_BCHW

"""A slow reference implementation of HorNet in numpy, written from the definitions."""

from __future__ import annotations

import numpy as np
from scipy.special import erf
from torch import nn

from hornet_train.models import GlobalLocalFilter, GnConv, HorNet
from hornet_train.models.mixers import Pool


def naive_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = x.mean(axis=1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * weight[:, None, None] + bias[:, None, None]


def naive_depthwise(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """A depthwise convolution, one kernel tap at a time."""
    size = weight.shape[-1]
    pad = size // 2
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros_like(x)
    for i in range(size):
        for j in range(size):
            out += padded[:, :, i : i + height, j : j + width] * weight[:, 0, i, j][:, None, None]
    return out if bias is None else out + bias[:, None, None]


def naive_pointwise(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()
    return np.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]


def naive_resize(weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with aligned corners: interpolate along one axis, then along the other."""
    for axis, size in ((1, height), (2, width)):
        old = weight.shape[axis]
        at = np.linspace(0, old - 1, size) if size > 1 else np.zeros(1)
        low = np.minimum(np.floor(at).astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
        weight = np.take(weight, low, axis) * (1 - share) + np.take(weight, high, axis) * share
    return weight


def naive_filter(layer: GlobalLocalFilter, x: np.ndarray) -> np.ndarray:
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    half, (height, width) = x.shape[1] // 2, x.shape[2:]
    normed = naive_norm(x, p["pre_norm.weight"], p["pre_norm.bias"])
    out = np.empty_like(x)
    out[:, 0::2] = naive_depthwise(normed[:, :half], p["dw.weight"], None)
    weight = naive_resize(p["complex_weight"], height, width // 2 + 1)
    spectrum = np.fft.rfft2(normed[:, half:], norm="ortho") * (weight[..., 0] + 1j * weight[..., 1])
    out[:, 1::2] = np.fft.irfft2(spectrum, s=(height, width), norm="ortho")
    return naive_norm(out, p["post_norm.weight"], p["post_norm.bias"])


def naive_pool(x: np.ndarray) -> np.ndarray:
    """The mean of each pixel's 3x3 neighbours; those outside the map do not count."""
    out = np.zeros_like(x)
    height, width = x.shape[2:]
    for i in range(height):
        for j in range(width):
            near = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            out[:, :, i, j] = near.reshape(*near.shape[:2], -1).mean(-1)
    return out


def naive_gnconv(layer: GnConv, x: np.ndarray, order: int, scale: float) -> np.ndarray:
    channels = x.shape[1]
    widths = [channels // 2 ** (order - 1 - k) for k in range(order)]
    projected = naive_pointwise(x, layer.proj_in)
    state, q = projected[:, : widths[0]], projected[:, widths[0] :]
    if isinstance(layer.dwconv, GlobalLocalFilter):
        q = naive_filter(layer.dwconv, q)
    elif isinstance(layer.dwconv, Pool):
        q = naive_pool(q)
    else:
        q = naive_depthwise(q, layer.dwconv.weight.detach().numpy(), layer.dwconv.bias.detach().numpy())
    start = 0
    for k, width in enumerate(widths):
        if k > 0:
            state = naive_pointwise(state, layer.pws[k - 1])
        state = state * q[:, start : start + width] * scale
        start += width
    return naive_pointwise(state, layer.proj_out)


def naive_mlp(x: np.ndarray, first: nn.Linear, second: nn.Linear) -> np.ndarray:
    for layer in (first, second):
        x = np.einsum("oc,bchw->bohw", layer.weight.detach().numpy(), x)
        x = x + layer.bias.detach().numpy()[:, None, None]
        x = 0.5 * x * (1 + erf(x / np.sqrt(2))) if layer is first else x
    return x


def naive_patches(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """A convolution whose kernel is its stride; pixels left over at the right and the bottom are ignored."""
    size = conv.kernel_size[0]
    batch, channels, height, width = x.shape
    x = x[:, :, : height // size * size, : width // size * size]
    x = x.reshape(batch, channels, height // size, size, width // size, size)
    out = np.einsum("ocij,bchiwj->bohw", conv.weight.detach().numpy(), x)
    return out + conv.bias.detach().numpy()[:, None, None]


def naive_hornet(model: HorNet, x: np.ndarray, orders: tuple[int, ...], scale: float) -> np.ndarray:
    """Logits (B, classes). Only the weights are taken from the model; orders and scale are arguments."""

    def norm(x: np.ndarray, module: nn.Module) -> np.ndarray:
        return naive_norm(x, module.weight.detach().numpy(), module.bias.detach().numpy())

    for index, order in enumerate(orders):
        for layer in model.downsample_layers[index].children():
            x = naive_patches(x, layer) if isinstance(layer, nn.Conv2d) else norm(x, layer)
        for block in model.stages[index]:
            gammas = [gamma.detach().numpy()[:, None, None] for gamma in (block.gamma1, block.gamma2)]
            x = x + gammas[0] * naive_gnconv(block.gnconv, norm(x, block.norm1), order, scale)
            x = x + gammas[1] * naive_mlp(norm(x, block.norm2), block.pwconv1, block.pwconv2)
    pooled = norm(x.mean(axis=(2, 3), keepdims=True), model.norm)[:, :, 0, 0]
    return pooled @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()

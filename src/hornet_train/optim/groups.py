"""Parameter groups: which parameters have weight decay, and layer-wise learning-rate decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn


def decays(name: str, parameter: nn.Parameter, exempt: frozenset[str] = frozenset()) -> bool:
    """Whether a parameter has weight decay: matrices and kernels do; biases, norms and layer scale do not.

    The rule of the published recipes: no weight decay for 1-D parameters and names that end in `.bias`. The
    4-D global filters have it.
    """
    return parameter.ndim > 1 and not name.endswith(".bias") and name not in exempt


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    exempt: Iterable[str] = (),
    layer_decay: float | None = None,
    layer_ids: Mapping[str, int] | None = None,
    full: int | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer, one for each combination of layer and weight decay (yes or no) that occurs.

    Args:
        named_parameters: as of `nn.Module.named_parameters`; those that require no gradient are left out.
        weight_decay: for the parameters that have it (see `decays`).
        exempt: names of parameters without weight decay, as a model's `no_weight_decay()` gives.
        layer_decay: the learning rate of layer i is scaled by layer_decay ** (full - i); None for 1.
        layer_ids: the layer of each parameter, 0 at the input; required with `layer_decay`.
        full: the layer that has the whole rate; None for the last one.

    Returns:
        Dicts with `params`, `weight_decay`, `lr_scale` and `names`, in a fixed order.
    """
    exempt = frozenset(exempt)
    last = max(layer_ids.values(), default=0) if layer_ids else 0
    top = last if full is None else full
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        layer = layer_ids[name] if layer_decay is not None and layer_ids is not None else top
        decayed = decays(name, parameter, exempt)
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr_scale": 1.0 if layer_decay is None else layer_decay ** (top - layer),
                "names": [],
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]

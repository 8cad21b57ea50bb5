"""The part of timm's model contract besides the forward pass: head, pruning, sizes, parameter groups."""

# no `from __future__ import annotations`: TorchScript reads the annotations of what it ignores
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from timm.models._features import feature_take_indices  # private, but every model of timm's uses it
from torch import nn

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.init import init_layer_
from hornet_train.models.layer_ids import group_matcher, layer_id, num_layer_ids
from hornet_train.models.options import image_size, require_pool, whole_number


class TimmContract(nn.Module):
    """What timm asks of a model besides its forward passes. HorNet fills the attributes in.

    Attributes:
        downsample_layers, stages, norm, head: the network in its order.
        depths: blocks of each stage, of the unpruned network also where it was pruned.
        strides: pixels of the image for one of each stage's map.
        feature_info: timm's description of the stages' outputs.
        output_norms: whether there are norm0 .. for these.
        head_init_scale: factor on a fresh head.
    """

    __jit_unused_properties__ = ("num_layer_ids",)

    if TYPE_CHECKING:  # TorchScript would try to understand these
        downsample_layers: nn.ModuleList
        stages: nn.ModuleList
        norm: nn.Module
        depths: tuple[int, ...]
        strides: list[int]
        feature_info: list[dict[str, Any]]
        output_norms: bool
        head_init_scale: float
        total_stride: int
        num_features: int

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the features of these stages do not need; timm's features_only calls it.

        What ends before the last stage has no use for the final norm and the head and loses both, whatever is
        asked; a new head then stands on the bare map. With output_norms the final norm goes with the head.

        Args:
            indices: as in `forward_intermediates`.
            prune_norm: remove the final norm.
            prune_head: remove head and pooling.

        Returns:
            The stages that are kept as outputs, counted from the first.
        """
        take, last = feature_take_indices(len(self.stages), indices)
        shorter = last < len(self.stages) - 1
        if prune_norm or shorter or (self.output_norms and prune_head):
            self.norm = nn.Identity()
        if self.output_norms:
            for stage in set(range(len(self.stages))) - set(take):
                delattr(self, f"norm{stage}")
        self.stages, self.downsample_layers = self.stages[: last + 1], self.downsample_layers[: last + 1]
        self.total_stride = self.strides[last]
        self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or shorter:
            self.reset_classifier(0, "")
        kept: list[int] = take
        return kept

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The linear head; an identity where num_classes is 0."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a fresh head, on the device and in the dtype of its other parameters.

        Raises:
            ValueError: an unknown `global_pool`, or a negative number of classes.
        """
        if global_pool is not None:
            self.global_pool = require_pool(global_pool)
        self.num_classes = whole_number("num_classes", num_classes, 0)
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            like = next(self.parameters())
            head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            self.head = head.train(self.training)
            self._init_head()

    def _init_head(self) -> None:
        init_layer_(self.head)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(self.head_init_scale)

    def init_weights(self) -> None:
        """Initialise all weights again; for a model that came to its device empty (`to_empty`)."""
        for module in self.modules():
            if isinstance(module, GlobalLocalFilter):
                module.reset_parameters()
        self.apply(init_layer_)
        self._init_head()

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Resize the global filters once for images of another size, in pixels; see `img_size`.

        A resized filter is a new parameter: call this before the optimizer is made.

        Raises:
            ValueError: an image smaller than the model's stride.
        """
        for module, grid in self._filters(img_size):
            module.resize(grid)
        self.img_size = image_size(img_size, self.total_stride)

    def resizes_filters(self, img_size: int | tuple[int, int]) -> bool:
        """Whether images of a size make every forward resize a global filter; see `img_size`."""
        return any(module.complex_weight.shape[1:3] != grid for module, grid in self._filters(img_size))

    def _filters(self, img_size: int | tuple[int, int]) -> list[tuple[GlobalLocalFilter, tuple[int, int]]]:
        """Each global filter and the grid that images of a size want of it."""
        return [(module, (height, width // 2 + 1)) for module, (height, width) in self._maps(img_size)]

    def _maps(self, img_size: int | tuple[int, int]) -> list[tuple[GlobalLocalFilter, tuple[int, int]]]:
        """Each global filter and the size of its map, of images of a size."""
        size = image_size(img_size, self.total_stride)
        return [
            (module, (size[0] // stride, size[1] // stride))
            for stride, stage in zip(self.strides, self.stages, strict=False)
            for module in stage.modules()
            if isinstance(module, GlobalLocalFilter)
        ]

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool | Sequence[int] = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations.

        Args:
            enable: whether all stages do so; or these, counted from 0.

        Raises:
            ValueError: there is no such stage.
        """
        every = range(len(self.stages))
        chosen = (every if enable else ()) if isinstance(enable, bool) else enable
        if missing := [stage for stage in chosen if stage not in every]:
            raise ValueError(f"the model has stages 0 to {len(every) - 1}, not {missing[0]}")
        for index, stage in enumerate(self.stages):
            stage.grad_checkpointing = index in chosen  # type: ignore[assignment]  # a ModuleList holds Modules

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's parameter groups in order of depth: by stage if `coarse`, else by layer-decay id."""
        return group_matcher(self.depths, coarse)

    @torch.jit.ignore
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

"""The figures that the authors print beside their models (README of the published code)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of the authors' tables; None where they print nothing.

    Attributes:
        parameters: in millions, as rounded by them. Those of the large models are with a head of 10,459
            classes, that of their ImageNet-22K.
        gmacs: at 224 pixels, as their counter has them (`Complexity.published_macs`).
        top1: per cent on ImageNet-1K.
        how: how that was trained and evaluated.
    """

    parameters: int | None = None
    gmacs: float | None = None
    top1: float | None = None
    how: str = ""


PUBLISHED: dict[str, Published] = {
    "hornet_tiny_7x7": Published(22, 4.0, 82.8, "300 epochs at 224"),
    "hornet_tiny_gf": Published(23, 3.9, 83.0, "300 epochs at 224"),
    "hornet_small_7x7": Published(50, 8.8, 83.8, "300 epochs at 224"),
    "hornet_small_gf": Published(50, 8.7, 84.0, "300 epochs at 224"),
    "hornet_base_7x7": Published(87, 15.6, 84.2, "300 epochs at 224"),
    "hornet_base_gf": Published(88, 15.5, 84.3, "300 epochs at 224"),
    "hornet_base_gf_img384": Published(),
    "hornet_large_7x7": Published(209, 34.8),
    "hornet_large_gf": Published(211, 34.7),
    "hornet_large_gf_img384": Published(216, None, 87.7, "ImageNet-22K, then 30 epochs at 384"),
}

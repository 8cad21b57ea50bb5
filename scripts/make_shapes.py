#!/usr/bin/env python3
"""Draw objects over real pictures, with masks and boxes: data to try segmentation and detection on.

    python scripts/make_shapes.py shapes --train 1000 --val 200 --size 128

writes ADE20K folders (images/, annotations/), COCO JSON (train.json, val.json) or, with --as imagenet,
folders of one object a class. The backgrounds are pictures that scikit-image and scikit-learn bring along.
Each shape has its own hue, more or less, in any strength: form alone takes far longer to learn. The same
arguments write the same bytes.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
SCALE = 4  # drawn so many times as large, and shrunk: smooth edges in pictures; masks are drawn as they are
BACKGROUND = "background"


class Drawn(NamedTuple):
    """One object: which shape, its outline and the box around it."""

    label: int
    outline: list[Point]
    box: tuple[float, float, float, float]


def regular(corners: int) -> list[Point]:
    """A regular polygon around 0 of radius 1."""
    return [
        (math.sin(2 * math.pi * k / corners), -math.cos(2 * math.pi * k / corners)) for k in range(corners)
    ]


def star() -> list[Point]:
    """A star of five points."""
    return [
        (r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5))
        for k in range(10)
        for r in [1.0 if k % 2 == 0 else 0.42]
    ]


def cross() -> list[Point]:
    """A plus sign."""
    a, b = 0.33, 0.95
    return [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]


def moon() -> list[Point]:
    """A crescent."""
    outer = [(math.cos(t), math.sin(t)) for t in np.linspace(0.35 * math.pi, 1.65 * math.pi, 24)]
    x, y = outer[0]
    middle, half = 0.6, math.atan2(y, x - 0.6)
    radius = math.hypot(x - middle, y)
    inner = [
        (middle + radius * math.cos(t), radius * math.sin(t))
        for t in np.linspace(2 * math.pi - half, half, 16)
    ]
    return [*outer, *inner[1:-1]]


def ellipse() -> list[Point]:
    """An ellipse twice as long as wide."""
    return [(0.5 * math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 32, endpoint=False)]


def arrow() -> list[Point]:
    """An arrow with a broad shaft."""
    return [(-0.3, 0.95), (-0.3, 0.0), (-0.8, 0.0), (0.0, -1.0), (0.8, 0.0), (0.3, 0.0), (0.3, 0.95)]


SHAPES: dict[str, Callable[[], list[Point]]] = {
    "circle": lambda: regular(36),
    "square": lambda: [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": lambda: regular(3),
    "star": star,
    "cross": cross,
    "moon": moon,
    "ellipse": ellipse,
    "arrow": arrow,
}
CLASSES = (BACKGROUND, *SHAPES)
USUAL = 7  # shapes: with the background as many classes as eight


@cache
def backgrounds() -> tuple[np.ndarray, ...]:
    """Real pictures, uint8 (H, W, 3), that come with two packages: no network is needed."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = list(load_sample_images().images)
    for name in ("astronaut", "coffee", "chelsea", "rocket", "brick", "grass", "gravel"):
        try:
            picture = getattr(data, name)()
        except Exception as error:  # some of scikit-image's are fetched on demand: those are left out
            if "pooch" not in str(error).lower() and not isinstance(error, OSError):
                raise
            continue
        found.append(np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture[:, :, :3])
    return tuple(found)


def draw_scene(
    rng: np.random.Generator, size: int, most: int, labels: list[int] | None = None, shapes: int = USUAL
) -> tuple[Image.Image, Image.Image, list[Drawn]]:
    """A picture, its mask (0 background, 1.. the shapes) and its objects, the last drawn in front.

    Args:
        size: pixels of a side.
        most: objects, from one on.
        labels: which shapes, if not drawn.
        shapes: how many different ones there are.
    """
    picture = background(rng, size)
    mask, objects = Image.new("L", (size, size), 0), []
    if labels is None:
        labels = [int(one) for one in rng.integers(1, shapes + 1, size=int(rng.integers(1, most + 1)))]
    for label in labels:
        radius = size * rng.uniform(0.12, 0.26)
        x, y = rng.uniform(0.6 * radius, size - 0.6 * radius, size=2)
        turn, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.0)
        outline = [
            (
                x + radius * (px * math.cos(turn) - py * squeeze * math.sin(turn)),
                y + radius * (px * math.sin(turn) + py * squeeze * math.cos(turn)),
            )
            for px, py in SHAPES[CLASSES[label]]()
        ]
        picture.paste(*painted(rng, size, outline, (label - 1) / shapes))
        ImageDraw.Draw(mask).polygon(outline, fill=label)
        xs, ys = ([min(max(one[axis], 0.0), float(size)) for one in outline] for axis in (0, 1))
        objects.append(Drawn(label, outline, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))))
    return picture, mask, objects


def background(rng: np.random.Generator, size: int) -> Image.Image:
    """A random part of a random picture, mirrored in half of the cases."""
    pictures = backgrounds()
    pixels = pictures[int(rng.integers(len(pictures)))]
    side = int(min(pixels.shape[:2]) * rng.uniform(0.3, 1.0))
    top, left = (int(rng.integers(whole - side + 1)) for whole in pixels.shape[:2])
    part = pixels[top : top + side, left : left + side]
    part = part[:, ::-1] if rng.integers(2) else part
    return Image.fromarray(np.ascontiguousarray(part)).resize((size, size), Image.Resampling.BILINEAR)


def painted(
    rng: np.random.Generator, size: int, outline: list[Point], hue: float
) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    """What `Image.paste` needs to put an object on a picture: its colours, the place, and where it covers."""
    large = Image.new("L", (SCALE * size, SCALE * size), 0)
    ImageDraw.Draw(large).polygon([(SCALE * x, SCALE * y) for x, y in outline], fill=255)
    cover = large.resize((size, size), Image.Resampling.BOX)
    hue = (hue + rng.normal(0, 0.02)) % 1
    first = 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1.0), rng.uniform(0.45, 1.0)))
    second = first + rng.normal(0, 30, size=3)  # light from one side
    along = np.linspace(0, 1, size)[:, None, None] * np.ones((1, size, 1))
    noise = rng.normal(0, 6, size=(size, size, 1))
    colours = first * (1 - along) + second * along + noise
    paint = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    return paint.filter(ImageFilter.SMOOTH), (0, 0), cover


def coco(
    splits: dict[str, list[tuple[str, list[Drawn], np.ndarray]]], size: int, names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """COCO JSON of each split. Polygons and areas are of whole objects, also where others cover them."""
    found = {}
    for split, pictures in splits.items():
        images, annotations = [], []
        for number, (name, objects, _) in enumerate(pictures, start=1):
            images.append({"id": number, "file_name": name, "width": size, "height": size})
            for one in objects:
                ring = [round(value, 2) for point in one.outline for value in point]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": one.label,
                        "bbox": [round(value, 2) for value in one.box],
                        "area": round(polygon_area(one.outline), 2),
                        "iscrowd": 0,
                        "segmentation": [ring],
                    }
                )
        categories = [{"id": label, "name": name} for label, name in enumerate(names) if label]
        found[split] = {"images": images, "annotations": annotations, "categories": categories}
    return found


def polygon_area(outline: list[Point]) -> float:
    """By the shoelace formula."""
    pairs = zip(outline, [*outline[1:], outline[0]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def write_scenes(
    out: Path, numbers: dict[str, int], size: int, most: int, seed: int, shapes: int = USUAL
) -> None:
    """ADE20K folders and COCO JSON."""
    names = {"train": "training", "val": "validation"}
    splits: dict[str, list[tuple[str, list[Drawn], np.ndarray]]] = {split: [] for split in numbers}
    for split, number in numbers.items():
        for kind in ("images", "annotations"):
            (out / kind / names[split]).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            rng = np.random.default_rng((seed, list(numbers).index(split), index))
            picture, mask, objects = draw_scene(rng, size, most, shapes=shapes)
            name = f"shapes_{split}_{index:06d}"
            picture.save(out / "images" / names[split] / f"{name}.jpg", quality=92)
            mask.save(out / "annotations" / names[split] / f"{name}.png")
            splits[split].append((f"{name}.jpg", objects, np.asarray(mask)))
    classes = CLASSES[: shapes + 1]
    for split, content in coco(splits, size, classes).items():
        (out / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def write_classes(out: Path, numbers: dict[str, int], size: int, seed: int, shapes: int = USUAL) -> None:
    """ImageNet folders: one object a picture, its shape the class."""
    for split, number in numbers.items():
        for index in range(number):
            rng = np.random.default_rng((seed, 2 + list(numbers).index(split), index))
            label = index % shapes + 1
            picture, _, _ = draw_scene(rng, size, 1, [label], shapes)
            folder = out / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{index:06d}.jpg", quality=92)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--train", type=int, default=1000, metavar="N", help="pictures (default: 1000)")
    parser.add_argument("--val", type=int, default=200, metavar="N", help="held-out pictures (default: 200)")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="of a side (default: 128)")
    parser.add_argument("--objects", type=int, default=5, metavar="N", help="most in a picture (default: 5)")
    parser.add_argument(
        "--shapes", type=int, default=USUAL, metavar="N", help=f"different ones (default: {USUAL})"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: 0)")
    parser.add_argument(
        "--as", dest="form", choices=("scenes", "imagenet"), default="scenes",
        help="scenes: masks and boxes (default); imagenet: folders of classes",
    )  # fmt: skip
    given = parser.parse_args()
    if given.out.exists() and any(given.out.iterdir()):
        parser.error(f"{given.out} is not empty: give a new folder")
    if min(given.train, given.val) < 0 or given.size < 16 or given.objects < 1:
        parser.error("--train and --val are 0 or more, --size 16 or more, --objects 1 or more")
    if not 1 <= given.shapes <= len(SHAPES):
        parser.error(f"--shapes is 1 to {len(SHAPES)}")
    numbers = {"train": given.train, "val": given.val}
    if given.form == "imagenet":
        write_classes(given.out, numbers, given.size, given.seed, given.shapes)
    else:
        write_scenes(given.out, numbers, given.size, given.objects, given.seed, given.shapes)


if __name__ == "__main__":
    main()

"""A classifier from `hornet-export --format onnx`, run without torch and without this program.

    pip install onnxruntime pillow
    python run_onnx.py photos.onnx cat.jpg dog.jpg

Everything that it needs to know is in the file.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def prepared(picture: Image.Image, how: dict) -> np.ndarray:
    """A picture as the model takes it, float32 (1, C, height, width): resized, cropped, normalised."""
    size = how["image_size"]
    tall, wide = (size, size) if isinstance(size, int) else size
    width, height = picture.size
    if how["crop_mode"] == "squash":  # the whole picture, whatever its shape
        width, height = wide, tall
    else:
        shrink = min(height / int(tall / how["crop_pct"]), width / int(wide / how["crop_pct"]))
        width, height = max(wide, int(width / shrink)), max(tall, int(height / shrink))
    picture = picture.resize((width, height), FILTERS[how["interpolation"]])
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    pixels = np.asarray(picture.crop((left, top, left + wide, top + tall)), dtype=np.float32) / 255
    pixels = (pixels - np.array(how["mean"])) / np.array(how["std"])
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def main(file: str, *paths: str) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    classes, how = json.loads(texts["classes"]), json.loads(texts["preprocessing"])
    for path in paths:
        with Image.open(path) as picture:
            images = prepared(picture.convert("RGB"), how)
        (logits,) = session.run(None, {"images": images})[0]
        odds = np.exp(logits - logits.max())
        best = (-odds).argsort()[:5]
        print(path, *(f"{classes[one]} {odds[one] / odds.sum():.1%}" for one in best), sep="  ")


if __name__ == "__main__":
    main(*sys.argv[1:])

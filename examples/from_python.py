"""A model from Python: train, load, predict, describe, train further, hand on.

    python examples/from_python.py

Everything is written below examples_out/. With a checkpoint of your own, begin at 2.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits

import hornet_train
from hornet_train.export.export_wanted import Export

OUT = Path("examples_out")
LONGER = sys.argv[1:]  # more keys for both trainings, such as epochs=5


def main() -> None:
    OUT.mkdir(exist_ok=True)
    Image.fromarray((load_digits().images[3] * 15).astype("uint8")).save(OUT / "three.png")

    # 1. A short training on the digits that come with scikit-learn.
    run = hornet_train.train(["data=digits", "epochs=4", f"run_dir={OUT}/first", *LONGER], quiet=True)

    # 2. Its best weights, with their preprocessing and the names of the classes.
    model = hornet_train.load(run.run_dir)

    # 3. What it says of a picture: a path, bytes or pixels; one, or a list.
    answer = model.predict(OUT / "three.png")
    print("answer:", answer["classes"][0], f"{answer['probabilities'][0]:.1%}")

    # 4. What its last layer sees, to compare pictures by.
    three, grey = model.features([OUT / "three.png", torch.full((3, 8, 8), 128, dtype=torch.uint8)])
    print(
        "features:", tuple(three.shape), f"likeness to grey {torch.cosine_similarity(three, grey, dim=0):.2f}"
    )

    # 5. From these weights on, with other settings or other data.
    further = hornet_train.train(
        ["data=digits", "epochs=4", f"init_from={run.run_dir}", f"run_dir={OUT}/further", *LONGER], quiet=True
    )
    print("top-1:", hornet_train.evaluate([f"checkpoint={further.run_dir}"], quiet=True).values["top1"])

    # 6. For other programs; it is run and compared with the model before it has its name.
    done = hornet_train.export_model(
        [f"checkpoint={further.run_dir}"],
        Export("onnx", OUT / "digits.onnx", overwrite=True),
        [OUT / "three.png"],
    )
    print("exported:", done.out, f"largest difference {done.comparison.difference:.0e}")


if __name__ == "__main__":
    main()

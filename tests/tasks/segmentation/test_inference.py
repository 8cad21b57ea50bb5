"""Windows, scales and mirror images, against the published evaluation of a model that is a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.tasks.segmentation.inference import Inference, enlarged_rows
from hornet_train.tasks.segmentation.windows import Windows, windows

Reference = Callable[[str], Mapping[str, np.ndarray]]


def fake_model() -> Callable[[Tensor], Tensor]:
    """Logits from means over cells of 4x4 pixels, and from the place in the crop."""
    rs = np.random.RandomState(7)
    mixing, places = rs.standard_normal((5, 3)), rs.standard_normal((5, 2))

    def model(images: Tensor) -> Tensor:
        means = F.avg_pool2d(images.double(), 4)
        height, width = means.shape[2:]
        rows, columns = (torch.arange(side).double() / side - 0.5 for side in (height, width))
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        logits = torch.einsum("kc,bchw->bkhw", torch.from_numpy(2 * mixing), means)
        logits += torch.einsum("kd,dhw->khw", torch.from_numpy(places), place)
        return F.interpolate(logits.float(), images.shape[2:], mode="bilinear", align_corners=False)

    return model


def picture(seed: int, height: int, width: int) -> Tensor:
    noise = np.random.RandomState(seed).standard_normal((1, 3, height, width)).astype(np.float32)
    padded = F.pad(torch.from_numpy(noise), (2, 2, 2, 2), mode="reflect")
    return 3 * F.avg_pool2d(padded, 5, stride=1)


def test_windows_are_the_published_ones(reference: Reference) -> None:
    stored = reference("dense/seg_slide")
    names = [name for name in stored if name.startswith("windows_")]
    assert len(names) == 8
    for name in names:
        _, crop, stride, size = name.split("_")
        height, width = map(int, size.split("x"))
        steps = Windows(int(crop)).steps
        assert steps == (int(stride), int(stride))
        found = windows((height, width), (int(crop), int(crop)), steps)
        corners = [(top, left, top + tall, left + wide) for top, left, tall, wide in found]
        assert corners == [tuple(row) for row in stored[name].tolist()], name


@pytest.mark.parametrize("number", [0, 1, 2])
def test_sliding_windows_average_logits(reference: Reference, number: int) -> None:
    stored, prefix = reference("dense/seg_slide"), f"slide{number}_"
    height, width, tall, wide = stored[f"{prefix}size"].tolist()
    inference = Inference(Windows(64, 43))
    logits = inference.answer(fake_model(), [picture(711 + number, height, width)], (tall, wide))
    whole = enlarged_rows(logits, 0, tall, (tall, wide))
    np.testing.assert_allclose(whole[:, ::7, ::7], stored[f"{prefix}logits"], rtol=1e-4, atol=1e-5)
    found = inference.predict(logits, (tall, wide))
    assert found.flatten().bincount(minlength=5).tolist() == stored[f"{prefix}class_count"].tolist()


@pytest.mark.parametrize("how", ["slide", "whole"])
def test_scales_and_mirror_images_average_probabilities(
    reference: Reference, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = reference("dense/seg_slide")
    sizes = [tuple(row) for row in stored["ms_sizes"].tolist()]
    images = [picture(711 + 100 + j, *size) for j, size in enumerate(sizes)]
    windows_of = Windows(64, 43) if how == "slide" else Windows()
    inference, model = Inference(windows_of, flip=True), fake_model()
    # the odd ones are pictures of their own where an evaluation has mirror images
    given = iter([windows_of.logits(model, image) for image in images])
    monkeypatch.setattr(Windows, "logits", lambda *_: next(given))
    count, kept = stored[f"ms_{how}_class_count"], stored[f"ms_{how}_probabilities"]
    tall, wide = (kept.shape[1] - 1) * 7 + 1, (kept.shape[2] - 1) * 7 + 1
    area = int(count.sum())
    height, width = next(
        (h, area // h) for h in range(tall, tall + 7) if area % h == 0 and wide <= area // h < wide + 7
    )
    # strips of a few rows come together to the same picture
    monkeypatch.setattr("hornet_train.tasks.segmentation.inference._VALUES", 5 * width * 11)
    answer = inference.answer(model, images[::2], (height, width))
    shares = torch.cat([strip for _, strip in inference.strips(answer, (height, width))], dim=1).exp()
    np.testing.assert_allclose(shares[:, ::7, ::7], kept, rtol=1e-4, atol=1e-6)
    found = inference.predict(answer, (height, width))
    assert found.flatten().bincount(minlength=5).tolist() == count.tolist()


def test_rows_of_an_enlarged_map_are_those_of_the_whole() -> None:
    logits = torch.randn(1, 4, 13, 17)
    whole = F.interpolate(logits, (50, 33), mode="bilinear", align_corners=False)[0]
    parts = [enlarged_rows(logits, top, min(top + 7, 50), (50, 33)) for top in range(0, 50, 7)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-6, atol=1e-6)


def test_flip_asks_for_the_mirror_image() -> None:
    image = picture(1, 40, 56)
    answer = Inference(flip=True).answer(fake_model(), [image], (40, 56))
    there, back = (fake_model()(one).softmax(1) for one in (image, image.flip(3)))
    torch.testing.assert_close(answer.exp(), (there + back.flip(3)) / 2)


def test_probabilities_of_several_views_that_are_0_have_a_finite_loss() -> None:
    def sure(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([400.0, -400.0])[None, :, None, None].expand(1, 2, *images.shape[2:])

    inference = Inference(flip=True)
    ((_, strip),) = inference.strips(inference.answer(sure, [picture(1, 40, 56)], (40, 56)), (40, 56))
    assert strip.isfinite().all()

"""The grammar of policies, and the properties that all policies share."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import PHOTO, tensor

from hornet_train.images.policies import parse_policy
from hornet_train.images.policies.augmix import AugMix
from hornet_train.images.policies.autoaugment import POLICIES, AutoAugment
from hornet_train.images.policies.operations import UNIFORM, Operations
from hornet_train.images.policies.parse import HEADS
from hornet_train.images.policies.policy import Policy
from hornet_train.images.policies.randaugment import RandAugment
from hornet_train.images.policies.three import ThreeAugment
from hornet_train.images.policies.trivial import TrivialAugment

FILL = (1, 2, 3)
TEXTS = [*HEADS, "rand-m9-mstd0.5-inc1", "v0-mstd0.5", "augmix-b1"]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (
            "rand-m9-mstd0.5-inc1",
            RandAugment(9, noise=0.5, increasing=True, fill=FILL, interpolation="bilinear"),
        ),
        ("original", AutoAugment(POLICIES["original"], Operations(0, 0.45, FILL, "bilinear"))),
        ("3a-mstd0.5", AutoAugment(POLICIES["3a"], Operations(0.5, 0.45, FILL, "bilinear"))),
        ("v0r-mstd101", AutoAugment(POLICIES["v0r"], Operations(UNIFORM, 0.45, FILL, "bilinear"))),
        ("augmix", AugMix(Operations(UNIFORM, 0.3, FILL, "bilinear"), 3, 3, 0, 1.0, False)),
        (
            "augmix-b1-m5-w4-d2-a0.5-mstd0.5",
            AugMix(Operations(0.5, 0.3, FILL, "bilinear"), 5, 4, 2, 0.5, True),
        ),
        ("ta_wide", TrivialAugment(FILL, "bilinear")),
        ("three", ThreeAugment()),
    ],
)
def test_grammar(text: str, policy: Policy) -> None:
    assert parse_policy(text, FILL, "bilinear") == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augmx-m3", "'augmx'.*did you mean 'augmix'"),
        ("", "'' starts with ''.*rand, ta_wide, three"),
        ("imagenet", "'imagenet'.*original.*v0r"),
        ("three-m3", "'m3'.*takes no parts"),
        ("ta_wide-mstd1", "'mstd1'.*takes no parts"),
        ("original-m3", "'m3'.*parts are mstd"),
        ("v0-mstd0.5-mstd1", "'mstd1'.*twice"),
        ("augmix-d-1", "'d'.*parts are m, w, d, a, b, mstd"),
        ("augmix-w0", "'w0'.*1..inf"),
        ("augmix-b2", "'b2'.*0..1"),
        ("augmix-m2.5", "'m2.5'.*whole"),
        ("augmix-a0", "alpha"),
        ("rand-w3", "'w3'"),
    ],
)
def test_errors_name_the_wrong_part(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_policy(text, FILL, "bilinear")


@pytest.mark.parametrize("text", TEXTS)
def test_decisions_come_from_the_generator_alone(text: str) -> None:
    policy: Policy = pickle.loads(pickle.dumps(parse_policy(text, FILL, "bicubic")))  # as sent to a worker
    image = tensor(PHOTO)
    first = [policy(image, np.random.default_rng((5, index))) for index in range(25)]
    torch.manual_seed(1)
    np.random.seed(1)  # the global generators must have no influence
    again = [policy(image, np.random.default_rng((5, index))) for index in reversed(range(25))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert len({result.numpy().tobytes() for result in first}) > 8
    assert torch.equal(image, tensor(PHOTO)), "the input image was changed"


@settings(max_examples=150, deadline=None)
@given(
    text=st.sampled_from([*TEXTS, "3a-mstd4", "augmix-m10-w1"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    contiguous=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_shape_and_memory_layout(text: str, height: int, width: int, contiguous: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(256, size=(height, width, 3), dtype=np.uint8)).permute(2, 0, 1)
    result = parse_policy(text, FILL, "bicubic")(image.contiguous() if contiguous else image, rng)
    assert result.shape == image.shape
    assert result.dtype == torch.uint8

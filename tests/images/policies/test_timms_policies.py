"""AutoAugment and AugMix are compared with timm's: on the same random draws, the same images."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pictures import FILL, PHOTO, apart, tensor
from PIL import Image
from timm.data import auto_augment as timm_aa

from hornet_train.images.policies.augmix import OPERATIONS, AugMix
from hornet_train.images.policies.autoaugment import POLICIES, AutoAugment
from hornet_train.images.policies.operations import UNIFORM, Operations
from hornet_train.images.policies.policy import Policy

DRAWS = 120
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Makes timm draw from `shared.rng`, posterize to 0 bits, and record its operations in `shared.done`."""
    state = SimpleNamespace(rng=np.random.default_rng(), done=[])

    def choice(options: Any, size: int | None = None, replace: bool = True) -> Any:
        if size is None:
            return options[state.rng.integers(len(options))]
        return [options[k] for k in state.rng.integers(len(options), size=size)]

    monkeypatch.setattr(random, "random", lambda: state.rng.random())
    monkeypatch.setattr(random, "uniform", lambda low, high: state.rng.uniform(low, high))
    monkeypatch.setattr(random, "gauss", lambda mean, deviation: state.rng.normal(mean, deviation))
    monkeypatch.setattr(random, "choice", choice)
    monkeypatch.setattr(np.random, "choice", choice)
    monkeypatch.setattr(np.random, "randint", lambda low, high: state.rng.integers(low, high))
    monkeypatch.setattr(np.random, "dirichlet", lambda alphas: state.rng.dirichlet(alphas))
    monkeypatch.setattr(np.random, "beta", lambda a, b: state.rng.beta(a, b))
    # which sign a draw below a half stands for is a free choice: here ours
    monkeypatch.setattr(timm_aa, "_randomly_negate", lambda value: -value if random.random() < 0.5 else value)

    def recorded(name: str, operation: Any) -> Any:
        def apply_operation(image: Image.Image, *values: float, **options: Any) -> Image.Image:
            state.done.append(name)
            if name.startswith("Posterize") and values[0] == 0:
                return Image.new("RGB", image.size)
            return operation(image, *values, **options)

        return apply_operation

    for name, operation in list(timm_aa.NAME_TO_OP.items()):
        monkeypatch.setitem(timm_aa.NAME_TO_OP, name, recorded(name, operation))
    return state


def assert_equals_timm(ours: Policy, theirs: Any, shared: SimpleNamespace, draws: int = DRAWS) -> None:
    """At most 2 levels apart; after geometric operations only on average, as pixels at edges may differ."""
    image, seen = tensor(PHOTO), set()
    for draw in range(draws):
        rng, shared.rng, shared.done = np.random.default_rng(draw), np.random.default_rng(draw), []
        result, expected = ours(image, rng), theirs(PHOTO)
        difference = apart(result, expected)
        where = (draw, shared.done)
        assert rng.random() == shared.rng.random(), where  # as many draws have been made, of the same kind
        seen.update(shared.done)
        if GEOMETRIC & set(shared.done):
            assert difference.mean() < 0.5, where
        else:
            assert difference.max() <= 2, where
    assert len(seen) > 2
    assert torch.equal(image, tensor(PHOTO)), "the input image was changed"


def hparams(**more: float) -> dict[str, Any]:
    """The parameters of timm's loader, with bilinear, for which both libraries have the same filter."""
    return {"img_mean": FILL, "interpolation": Image.Resampling.BILINEAR, **more}


@pytest.mark.parametrize("noise", ["", "-mstd0.5", "-mstd3"])
@pytest.mark.parametrize("name", POLICIES)
def test_autoaugment(name: str, noise: str, shared: SimpleNamespace) -> None:
    theirs = timm_aa.auto_augment_transform(name + noise, hparams())
    assert_equals_timm(AutoAugment.parse(name + noise, FILL, "bilinear"), theirs, shared)


@pytest.mark.parametrize("name", POLICIES)
def test_tables_are_timms(name: str) -> None:
    theirs = timm_aa.auto_augment_transform(name, hparams()).policy
    assert [list(sub_policy) for sub_policy in POLICIES[name]] == [
        [(op.name, op.prob, op.magnitude) for op in sub_policy] for sub_policy in theirs
    ]


@pytest.mark.parametrize(
    "text", ["augmix", "augmix-m5-w2-d2", "augmix-w1-d1-mstd0.5", "augmix-a0.3-b1", "augmix-m9-b1-w4"]
)
def test_augmix(text: str, shared: SimpleNamespace) -> None:
    theirs = timm_aa.augment_and_mix_transform(text, hparams(translate_pct=0.3))
    assert_equals_timm(AugMix.parse(text, FILL, "bilinear"), theirs, shared, draws=60)


def test_augmix_draws_from_timms_operations() -> None:
    assert list(OPERATIONS) == timm_aa._AUGMIX_TRANSFORMS


@pytest.mark.parametrize("blended", [False, True])
def test_augmix_is_the_weighted_sum(blended: bool) -> None:
    """The result is the weighted sum of the chains and the image, up to rounding in between."""
    image = tensor(PHOTO)
    for seed in range(20):
        operations = Operations(noise=UNIFORM, shift=0.3)
        ours = AugMix(operations, magnitude=3, width=3, depth=2, blended=blended)(image, rng_of(seed))
        rng = rng_of(seed)
        weights = rng.dirichlet([1, 1, 1])
        share = rng.beta(1, 1)
        total = (1 - share) * image.double()
        for weight in weights:
            chain = image
            for choice in rng.integers(len(OPERATIONS), size=2):
                chain = operations(OPERATIONS[choice], chain, 3, rng)
            total += share * weight * chain.double()
        difference = total - ours.double()
        assert difference.min() > -0.01  # results are truncated, never rounded up
        assert difference.max() < (3.01 if blended else 2.01)


def test_augmix_with_all_the_weight_in_one_chain() -> None:
    """Weights of exactly 0 and 1, which small alphas give, cause no division by zero."""
    image = tensor(PHOTO)
    for seed in range(40):
        plain = AugMix.parse("augmix-a0.002-d1")(image, rng_of(seed))
        blended = AugMix.parse("augmix-a0.002-d1-b1")(image, rng_of(seed))
        assert (plain.int() - blended.int()).abs().max() <= 3


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng((7, seed))

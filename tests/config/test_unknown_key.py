"""What is said of a key that a config does not have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from configs import compose_info

from hornet_train.config.bench_schema import StepBench
from hornet_train.config.compose_eval import check_keys, compose_eval
from hornet_train.config.compose_info import compose_bench
from hornet_train.config.compose_train import compose_train
from hornet_train.errors import ConfigError
from hornet_train.tasks.table import NAMES, find

COMMANDS: dict[str, Callable[[list[str]], object]] = {
    "train": lambda given: compose_train(given, find=find, names=NAMES),
    "eval": lambda given: compose_eval(
        ["checkpoint=x", *given], lambda _: {"model": {"name": "resnet18"}, "data": {"source": "digits"}},
        find=find, names=NAMES,
    ),
    "info": compose_info,
    "bench": lambda given: compose_bench(StepBench, "step", given),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        # another option of the group has it: the general one first, none that only an evaluation takes
        (
            "train",
            "data.root=photos",
            "unknown key data.root: data=digits has none; data=csv, data=folder, data=cifar10, "
            "data=cifar100, data=fashion_mnist, data=imagenet, data=imagenet22k, data=mnist have it",
        ),
        (
            "eval",
            "data.root=photos",
            "data=digits has none; data=csv, data=folder, data=imagenet_a",
        ),
        ("train", "schedule.power=2", "schedule=cosine has none; schedule=poly has it"),
        (
            "train",
            "data.rot=photos",
            "did you mean 'data.root'? data=digits has none; data=csv, data=folder",
        ),
        ("train", "power=2", "did you mean 'schedule.power'? schedule=cosine has none; schedule=poly has it"),
        # another command has it
        ("train", "weights=ema", "unknown key weights: hornet-eval has it, hornet-train does not"),
        ("train", "checkpoint=r", "checkpoint=r: init_from=<weights> begins with weights, run_dir=<run"),
        ("train", "out=x", "hornet-train does not; run_dir=<folder> says where a run is written"),
        ("train", "suite=all", "unknown key suite: hornet-eval has it, hornet-train does not"),
        ("train", "hydra.run.dir=x", "settings of Hydra are for a sweep (hornet-train --multirun)"),
        ("eval", "epochs=3", "unknown key epochs: hornet-train has it, hornet-eval does not"),
        ("eval", "augment=none", "unknown key augment: hornet-train has it, hornet-eval does not"),
        ("eval", "optim.lr=1", "unknown key optim.lr: hornet-train has it, hornet-eval does not"),
        ("eval", "run_dir=x", "checkpoint=<run folder, step folder or weights> says what is evaluated"),
        ("info", "data=digits", "unknown key data: hornet-train, hornet-eval have it, hornet-info does not"),
        ("bench", "model=x", "hornet-bench step does not; did you mean 'models'?"),
        # a slip within the config: as ever
        ("train", "bach_size=3", "unknown key bach_size: did you mean 'batch_size'?"),
        ("train", "lr=3", "did you mean 'optim.lr'"),
        ("train", "image_size=3", "did you mean 'data.image_size'?"),
        ("train", "guard=3", "guard=3: it is one of guard.max_skips, guard.spike,"),
    ],
)
def test_it_says_where_the_key_is(command: str, given: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        COMMANDS[command]([given])
    assert message in "\n".join(raised.value.faults)


def test_of_an_unread_checkpoint_only_what_no_option_has_is_at_fault() -> None:
    check_keys(
        ["checkpoint=x.pth", "data.root=photos", "model.args.foo=1", "suite=all"], find=find, names=NAMES
    )
    with pytest.raises(ConfigError, match="weigts: did you mean 'weights'"):
        check_keys(["checkpoint=x.pth", "weigts=ema"], find=find, names=NAMES)
    with pytest.raises(ConfigError, match="no such option of data"):
        check_keys(["checkpoint=x.pth", "data=fodler"], find=find, names=NAMES)

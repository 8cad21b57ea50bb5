"""hornet-train with faults injected into its steps: python faulty.py '<JSON list of faults>' <arguments>.

{"kind": "loss" | "gradient" | "spike", "steps": [...], "rank": 0} or {"kind": "sample", "index": 7}; kind
"stop" sends the process SIGTERM in these steps.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import hornet_train.engine.trainer as trainer
from hornet_train.cli.train import main
from hornet_train.tasks.classification.task import Classification


def install(faults: list[dict[str, Any]]) -> None:
    """Inject the faults into this process; they stay until it ends."""
    step_, loss_, prepared_ = trainer.train_step, Classification.loss, Classification.prepared
    now: dict[str, int] = {}

    def due(kind: str) -> bool:
        return any(
            f["kind"] == kind and now["step"] in f["steps"] and now["rank"] == f.get("rank", 0)
            for f in faults
        )

    def train_step(state: Any, *args: Any, world: Any, **how: Any) -> Any:
        now.update(step=state.step, rank=world.rank)
        hooks = []
        if due("stop"):
            os.kill(os.getpid(), signal.SIGTERM)
        if due("gradient"):
            first = next(state.model.parameters())
            hooks.append(first.register_hook(lambda gradient: gradient * float("nan")))
        result = step_(state, *args, world=world, **how)
        for hook in hooks:
            hook.remove()
        return result

    def loss(self: Any, *args: Any) -> Any:
        value = loss_(self, *args)
        if due("loss"):
            value = replace(value, mean=value.mean * float("inf"))
        return replace(value, mean=value.mean * 100) if due("spike") else value

    def prepared(self: Any, batch: Any, rng: Any) -> Any:
        images, targets = prepared_(self, batch, rng)
        for fault in faults:
            if fault["kind"] == "sample":
                images[batch["index"] == fault["index"]] = float("nan")
        return images, targets

    trainer.train_step = train_step
    Classification.loss = loss  # type: ignore[method-assign]
    Classification.prepared = prepared  # type: ignore[method-assign]


if __name__ == "__main__":
    install(json.loads(sys.argv[1]))
    main(sys.argv[2:])

"""The program of each rank in `hornet-bench scaling`: times training steps on random images."""

from __future__ import annotations

import json
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

from hornet_train.bench.contenders import contender
from hornet_train.bench.timing import wait_for
from hornet_train.data.memory import keep_freed_memory
from hornet_train.engine.distributed import choose_device, distributed
from hornet_train.engine.precision import autocast
from hornet_train.images.size import size_of
from hornet_train.models.layers import lay_out
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw, set_learning_rate


def main(settings_json: str) -> None:
    """Print `seconds <of a step>` from rank 0."""
    settings = json.loads(settings_json)
    device = choose_device(settings["device"])
    if device.type == "cpu":
        keep_freed_memory()
    with distributed(device, backend="auto", timeout_minutes=10) as world:
        torch.manual_seed(0)
        height, width = settings["height_width"]
        model = contender(settings["model"], size_of(height, width)).build()
        model = lay_out(model.to(world.device), torch.channels_last).train()
        network = world.wrap(model)
        optimizer = adamw(
            parameter_groups(model.named_parameters(), weight_decay=0.05), betas=(0.9, 0.999), eps=1e-8
        )
        set_learning_rate(optimizer, 1e-4)
        shape = (settings["batch_size"], 3, height, width)
        images = torch.randn(shape, device=world.device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (settings["batch_size"],), device=world.device)
        begin = 0.0
        for step in range(settings["steps"] + 2):
            if step == 2:
                _wait_for_all(world.device)
                begin = time.perf_counter()
            with autocast(settings["precision"], world.device):
                logits = network(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        _wait_for_all(world.device)
        if world.is_main:
            sys.stdout.write(f"seconds {(time.perf_counter() - begin) / settings['steps']}\n")


def _wait_for_all(device: torch.device) -> None:
    wait_for(device)
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    main(sys.argv[1])

"""The bench of a service."""

from __future__ import annotations

from statistics import median, quantiles

from hornet_train.cli.bench_common import (
    before_torch,
    check_model,
    console_sink,
    precision_of,
    write_figures,
)
from hornet_train.config.bench_schema import ServiceBench
from hornet_train.config.compose_info import compose_bench
from hornet_train.images.size import as_value, brief
from hornet_train.serving.service_wanted import Service


def service(overrides: list[str]) -> None:
    """`hornet-bench service`."""
    config = compose_bench(ServiceBench, "service", overrides).config
    Service().check()
    before_torch(config.out)
    from hornet_train.bench.service_load import measure_service
    from hornet_train.run.process import joined

    console = console_sink()
    with joined(config.dist) as world:
        precision = precision_of(config.precision, world.device)
        keys = [f"data.image_size={as_value(config.image_size)}", f"batch_size={config.batch_size}"]
        keys += ["data=imagenet", f"precision={precision}", f"dist.device={world.device.type}"]
        keys += [] if config.dist.threads is None else [f"dist.threads={config.dist.threads}"]
        found = measure_service(
            check_model(config.model), keys, clients=config.clients, seconds=config.seconds
        )
    rows = [
        (name, f"{len(times):,}", *(f"{value:.3f}" for value in (median(times), _most(times), max(times))))
        for name, times in (("one client", found.alone), (f"{config.clients} clients", found.together))
        if len(times) > 1
    ]
    size = brief(config.image_size)
    title = (
        f"{config.model}, {size} pixels, {precision}, at most {config.batch_size} pictures at once; seconds "
        "of an answer"
    )
    console.table(title, ("", "answers", "median", "95%", "longest"), rows)
    console.say(
        f"{len(found.together) / found.seconds:.1f} answers a second, {found.batch:.1f} pictures at once; "
        f"{found.failed} requests failed; memory {found.megabytes[0]:,.0f} MB, at the end "
        f"{found.megabytes[1]:,.0f} MB"
    )
    write_figures(console, config, precision, world.device, found.as_json())


def _most(times: list[float]) -> float:
    """What 95% of them stay below."""
    return quantiles(times, n=20)[-1]

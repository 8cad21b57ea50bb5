"""How a service of a model (`hornet-predict --serve`) answers one client, and several at once."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from hornet_train.bench.pictures import cut_picture, encoded, source_pictures
from hornet_train.errors import DataError

_PICTURES = 24  # different ones
_ALONE = 20  # pictures of a client that is alone
_SETTLED = 0.2  # share of the time after which memory is read for the first time


@dataclass(frozen=True)
class Answering:
    """What was measured.

    Attributes:
        alone: seconds of each answer for a client that is alone.
        together: seconds of each answer while there were `clients`.
        failed: requests that were not answered by a 200.
        seconds: in which `together` were answered.
        batch: pictures that went through the model at once, on average, while there were several clients.
        megabytes: resident memory after a fifth of the time, and at the end.
    """

    alone: list[float]
    together: list[float]
    failed: int
    seconds: float
    batch: float
    megabytes: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def measure_service(name: str, overrides: Sequence[str], *, clients: int, seconds: float) -> Answering:
    """Serve a model with random weights and send it JPEGs of 500 x 375 pixels, over this machine alone.

    Args:
        name: of a classifier of timm's.
        overrides: of `hornet-predict`, beyond the checkpoint.
        clients: that send pictures at once, each the next when it has its answer.
        seconds: for which they do.

    Raises:
        DataError: scikit-image is missing, or the service does not start.
    """
    rng, sources = np.random.default_rng(0), source_pictures()
    pictures = [encoded(cut_picture(sources[n % len(sources)], rng)) for n in range(_PICTURES)]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{name}.pth"
        torch.save({"model": timm.create_model(name).state_dict()}, weights)
        with _served(weights, overrides) as place:
            alone = [_answer(place, pictures[n % _PICTURES])[1] for n in range(_ALONE)]
            return _together(place, pictures, alone, clients, seconds)


def _together(
    place: str, pictures: Sequence[bytes], alone: list[float], clients: int, seconds: float
) -> Answering:
    before = _metrics(place)
    begin, numbers = time.monotonic(), count()
    settled: list[float] = []

    def client(which: int) -> list[tuple[int, float]]:
        found = []
        while (passed := time.monotonic() - begin) < seconds:
            if which == 0 and not settled and passed >= _SETTLED * seconds:
                settled.append(_metrics(place)["process_resident_memory_bytes"])
            found.append(_answer(place, pictures[next(numbers) % len(pictures)]))
        return found

    with ThreadPoolExecutor(clients) as pool:
        found = [one for some in pool.map(client, range(clients)) for one in some]
    took, after = time.monotonic() - begin, _metrics(place)
    gone, batches = (
        after[f"hornet_batch_pictures_{what}"] - before[f"hornet_batch_pictures_{what}"]
        for what in ("sum", "count")
    )
    last = after["process_resident_memory_bytes"]
    return Answering(
        alone,
        [spent for status, spent in found if status == 200],
        sum(status != 200 for status, _ in found),
        took,
        gone / batches,
        ((settled[0] if settled else last) / 1e6, last / 1e6),
    )


@contextmanager
def _served(checkpoint: Path, overrides: Sequence[str]) -> Iterator[str]:
    """The service in a process of its own: its host and port.

    Raises:
        DataError: it does not start.
    """
    module = "hornet_train.cli.predict"
    command = [sys.executable, "-m", module, f"checkpoint={checkpoint}", *overrides, "--serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    try:
        while not (found := re.search(r"answers at http://(\S+),", said)):
            if not (line := process.stderr.readline()):
                raise DataError(f"the service does not start: {said.strip()}")
            said += line
        yield found[1]
    finally:
        process.terminate()
        process.communicate()


def _answer(place: str, picture: bytes) -> tuple[int, float]:
    """Send a picture: HTTP's status, and the seconds until the answer was there."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(place, timeout=120)
    connection.request("POST", "/predict", picture)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, time.perf_counter() - begin


def _metrics(place: str) -> dict[str, float]:
    connection = http.client.HTTPConnection(place, timeout=120)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}

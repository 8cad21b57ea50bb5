"""A service in a process of its own, as a user starts it, and requests to it with every header as given."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from helpers import BIN
from PIL import Image


@dataclass(frozen=True)
class Served:
    """A service that answers at `url`."""

    url: str
    process: subprocess.Popen[str]

    @property
    def place(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    def ask(
        self,
        path: str = "/predict",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> tuple[int, Any]:
        """Send a request, a POST where there is a body; the status and the JSON of the answer."""
        connection = http.client.HTTPConnection(self.place, timeout=60)
        connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kind = answer.headers.get_content_type()
        return answer.status, json.loads(content) if kind == "application/json" else content.decode()

    def metric(self, name: str) -> float:
        """A number of /metrics; 0 where nothing was counted yet."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal: its exit code, and what it has said since it answered."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def picture_of(url: str) -> np.ndarray[Any, np.dtype[np.generic]]:
    """The pixels of a picture in a data: URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@contextmanager
def served(checkpoint: Path, *more: str) -> Iterator[Served]:
    """`hornet-predict --serve` on a free port."""
    command = [str(BIN / "hornet-predict"), f"checkpoint={checkpoint}", "--serve", "--port", "0", *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    try:
        while not (found := re.search(r"answers at (\S+),", said)):
            line = process.stderr.readline()
            assert line, f"the service ended: {said}"
            said += line
        yield Served(found[1], process)
    finally:
        process.kill()
        process.wait()

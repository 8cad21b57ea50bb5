"""hornet-predict --serve: answers over HTTP are those of the library, and nothing else is let in."""

from __future__ import annotations

import io
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import ROOT
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from PIL import Image
from service import Served, served

import hornet_train
from hornet_train.errors import ConfigError
from hornet_train.serving import service_wanted
from hornet_train.serving.service_wanted import Service

Command = Callable[..., tuple[int, str, str]]
RUN = ROOT / "tests" / "old_run" / "run"
CHECKPOINT = f"checkpoint={RUN}"


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(RUN, "batch_size=4") as found:
        yield found


def picture(seed: int = 0, kind: str = "png", mode: str = "RGB") -> bytes:
    """The file of a picture of coarse colours."""
    rng, file = np.random.default_rng(seed), io.BytesIO()
    pixels = np.kron(rng.integers(0, 255, (4, 5, 4), dtype=np.uint8), np.ones((9, 9, 1), np.uint8))
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def test_answers_are_those_of_the_library_alone_and_together(service: Served) -> None:
    kinds: Sequence[tuple[str, str]] = [("png", "RGBA"), ("jpeg", "L"), ("webp", "RGB"), ("gif", "P")]
    pictures = [picture(number, *kinds[number % 4]) for number in range(24)]
    model = hornet_train.load(RUN)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda content: service.ask(body=content), pictures))
    for content, (status, found) in zip(pictures, answers, strict=True):
        expected = model.predict(content)
        assert status == 200, found
        assert found["classes"] == expected["classes"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)
    # what came together went through the model together
    assert service.metric("hornet_batch_pictures_sum") >= 24
    assert service.metric("hornet_batch_pictures_count") < service.metric("hornet_batch_pictures_sum")
    assert service.metric("hornet_predict_seconds_count") == 24
    assert service.metric("hornet_open_requests") == 0


def of_header(width: int, height: int) -> bytes:
    """A PNG whose header says its size, and which has no pixels."""
    found = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), b"IDAT"):
        found += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return found


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
SENT: dict[str, tuple[int, str, bytes]] = {
    "a body of 20 MB": (413, "20,000,000 bytes", b"\xff\xd8\xff" + bytes(19_999_997)),
    "30,000 x 30,000 pixels": (413, "900000000 pixels", of_header(30_000, 30_000)),
    "10,000 x 10,000 pixels": (413, "100,000,000 pixels", of_header(10_000, 10_000)),
    "half a picture": (422, "cannot be decoded", picture()[:200]),
    "a text": (415, "no picture: JPEG, PNG", b"hello"),
    "nothing": (415, "no picture", b""),
}
HEADERS: dict[str, tuple[int, str, dict[str, str]]] = {
    "a form": (415, "no form", FORM),
    "a foreign Host": (421, "--allow-host", {"Host": "pages.example"}),
    "a foreign page": (403, "pages of others", {"Origin": "http://pages.example"}),
    "a page without origin": (403, "pages of others", {"Origin": "null"}),
    "a page of another port": (403, "pages of others", {"Origin": "http://127.0.0.1:1"}),
    "a foreign form": (403, "pages of others", {"Sec-Fetch-Site": "cross-site"}),
}


@pytest.mark.parametrize("case", [*SENT, *HEADERS])
def test_what_is_refused(service: Served, case: str) -> None:
    status, reason, _ = SENT.get(case) or HEADERS[case]
    body = SENT[case][2] if case in SENT else picture()
    found = service.ask(body=body, headers=HEADERS[case][2] if case in HEADERS else None)
    assert found[0] == status, found
    assert found[1].keys() == {"error"}
    assert reason in found[1]["error"]
    assert service.ask(body=picture())[0] == 200


def test_what_there_is_not(service: Served) -> None:
    assert service.ask("/predict?top=1", picture())[0] == 400
    assert "drawn=true" in service.ask("/predict?drawn=true", picture())[1]["error"]
    assert service.ask("/predict") == (405, {"error": "Method Not Allowed"})
    assert service.ask("/../../etc/passwd") == (404, {"error": "Not Found"})
    assert service.ask("/", headers={"Host": "pages.example"})[0] == 421


def raw(service: Served, *parts: bytes, wait: float = 0.0) -> bytes:
    """Send bytes as they are, with a pause after each, and read all that comes back."""
    host, port = service.place.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_body_without_length_is_refused(service: Served) -> None:
    content = picture()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    head = f"POST /predict HTTP/1.1\r\nHost: {service.place}\r\n".encode()
    found = raw(service, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert found.startswith(b"HTTP/1.1 411 ")
    assert b"Content-Length" in found
    # who asks beforehand is answered before anything is sent
    large = b"Content-Length: 90000000\r\nExpect: 100-continue\r\n\r\n"
    assert raw(service, head + large).startswith(b"HTTP/1.1 413 ")
    both = b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    assert raw(service, head + both + chunks)[:10] in (b"HTTP/1.1 4", b"HTTP/1.0 4")
    twice = f"Host: {service.place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    assert raw(service, head + twice).startswith(b"HTTP/1.1 4")
    assert service.ask(body=content)[0] == 200


def test_time_and_number_of_requests_are_limited() -> None:
    with served(
        RUN, "--max-requests", "1", "--max-seconds", "1.5", "--allow-host", "Pictures.Example"
    ) as slow:
        head = b"POST /predict HTTP/1.1\r\nHost: pictures.example\r\nContent-Length: 1000\r\n\r\n"
        found: list[bytes] = []
        waiting = threading.Thread(target=lambda: found.append(raw(slow, head + b"\xff\xd8\xff")))
        begin = time.monotonic()
        waiting.start()
        while slow.metric("hornet_open_requests") < 1:
            assert time.monotonic() - begin < 1.4
        assert slow.ask(body=picture()) == (503, {"error": "1 requests are being answered: ask again"})
        waiting.join()
        assert found[0].startswith(b"HTTP/1.1 408 ")
        assert b"within 1.5 seconds" in found[0]
        assert slow.ask(body=picture())[0] == 200
        assert slow.end(signal.SIGINT) == (0, "ended\n")


def test_what_is_being_answered_is_answered_before_the_end() -> None:
    with served(RUN) as ending:
        content = picture()
        sizes = f"Host: {ending.place}\r\nContent-Length: {len(content)}\r\n\r\n"
        head = f"POST /predict HTTP/1.1\r\n{sizes}".encode()
        host, port = ending.place.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head + content[:100])
            while ending.metric("hornet_open_requests") < 1:
                time.sleep(0.01)
            ending.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(content[100:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert ending.process.wait(60) == 0


def test_its_description_is_openapi_and_true(service: Served) -> None:
    _, described = service.ask("/openapi.json")
    validate(described)
    schemas = described["components"]["schemas"]
    Draft202012Validator(schemas["Answer"]).validate(service.ask(body=picture())[1])
    Draft202012Validator(schemas["Error"]).validate(service.ask(body=b"no")[1])
    assert set(described["paths"]) | {"/", "/openapi.json", "/page.js", "/page.css"} == {
        *("/", "/page.js", "/page.css", "/openapi.json"),
        *("/predict", "/model", "/health", "/metrics"),
    }
    for path, methods in described["paths"].items():
        assert [*methods] == ["post"] or service.ask(path)[0] == 200
    tested = {status for status, _, _ in (*SENT.values(), *HEADERS.values())} | {200, 400, 408, 411, 503}
    assert {int(status) for status in described["paths"]["/predict"]["post"]["responses"]} == tested
    assert str(RUN.parent) not in str(described) + str(service.ask("/model"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--serve", "cat.jpg"], "cat.jpg is no key=value"),
        (["--serve", "--out", "a.csv", "--masks", "m"], "--out, --masks: --serve writes no files"),
        (["--port", "80", "cat.jpg"], "--port: it is for --serve"),
        (["--serve", "--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
        (["--serve", "--host", "0.0.0.0"], "--allow-host says what they call this one"),
        (["--serve", "--host", "no.such.name.invalid"], "--host=no.such.name.invalid: "),
        (["--serve", "--max-pixels", "999999999"], "from 1 to 178956970"),
        (["--serve", "--max-body", "much"], "'much' is not a size"),
        (["--serve", "--threshold", "2"], "not a number from 0 to 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_built(command: Command, given: list[str], message: str) -> None:
    code, out, err = command("hornet-predict", CHECKPOINT, *given)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err


def test_a_port_that_is_taken(service: Served, command: Command) -> None:
    port = service.place.split(":")[1]
    code, _, err = command("hornet-predict", CHECKPOINT, "--serve", "--port", port)
    assert code == 2
    assert f"--port={port} cannot be listened on: Address already in use" in err


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_wanted, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(ConfigError, match=r"--serve needs uvicorn: pip install 'hornet-train\[serve\]'"):
        Service().check()


def test_classes_are_answered_as_they_are_asked_for() -> None:
    with served(RUN, "--top", "2", "--threshold", "0.12", "--flip") as asked:
        model = hornet_train.load(RUN, asked=hornet_train.tasks.asked.Asked(2, 0.12, flip=True))
        for number in range(4):
            content = picture(number)
            assert asked.ask(body=content)[1]["classes"] == model.predict(content)["classes"]


def test_memory_stays_where_it_is(service: Served) -> None:
    pictures = [picture(number, "jpeg") for number in range(50)]

    def many(count: int) -> float:
        with ThreadPoolExecutor(8) as clients:
            statuses = set(clients.map(lambda n: service.ask(body=pictures[n % 50])[0], range(count)))
        assert statuses == {200}
        return service.metric("process_resident_memory_bytes")

    first = many(200)
    assert many(600) < first + 30e6

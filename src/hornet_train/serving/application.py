"""The service itself: its addresses, and the way of a picture from the request to the answer."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, TypeVar

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.worker import Item
from hornet_train.errors import OutOfMemory, PictureTooLarge, SampleError
from hornet_train.images.decode import stored_pixels
from hornet_train.images.formats import FORMATS, format_of
from hornet_train.run.asking import Asking
from hornet_train.serving.model_thread import ModelThread
from hornet_train.serving.openapi import DRAWN, MASK, description, options_of
from hornet_train.serving.request_rules import RequestRules, refusal
from hornet_train.serving.service_metrics import ServiceMetrics
from hornet_train.serving.service_wanted import Service
from hornet_train.tasks.predictor_types import Answer

_PAGE = {"/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
_PAGE["/page.css"] = ("page.css", "text/css")
_SHOWN = 1600  # pixels of a drawn answer's longer side
_WHERE = "the picture"
_VALUES = {"true": True, "1": True, "": True, "false": False, "0": False}
_READERS = 4  # threads that decode, at most

T = TypeVar("T")


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """A request that is answered by a reason."""

    def __init__(self, status: int, reason: str, retry: int | None = None) -> None:
        super().__init__(reason)
        self.response = refusal(status, reason, close=status == 408, retry=retry)


class Application:
    """Answers for pictures over HTTP, as ASGI has it: `app`."""

    def __init__(self, asking: Asking, service: Service, batch_size: int, model: dict[str, Any]) -> None:
        """Args:
        batch_size: pictures that go through the model at once, at most.
        model: what `/model` answers.
        """
        self._limits, self._answers = service.limits, asking.predictor.answers
        self._asking, self._open = asking, 0
        self._options = options_of(self._answers)
        self._metrics = ServiceMetrics()
        self._thread = ModelThread(asking, batch_size, self._metrics.batch)
        readers = max(1, min(_READERS, len(os.sched_getaffinity(0))))
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="read")
        texts = description(model, self._answers, service.limits)
        routes = [
            *(Route(path, _file(name, kind)) for path, (name, kind) in _PAGE.items()),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/model", _always(model)),
            Route("/openapi.json", _always(texts)),
            Route("/health", _always({"status": "ok"})),
            Route("/metrics", self._count),
        ]
        inner = Starlette(routes=routes, exception_handlers={HTTPException: _http, Exception: _failed})
        self.app = RequestRules(
            inner,
            hosts=service.hosts,
            body=service.limits.body,
            seconds=service.limits.seconds,
            paths={route.path for route in routes},
            metrics=self._metrics,
        )

    def answer_now(self, content: bytes) -> Answer:
        """What the model says of a picture, asked here: before the service begins, so that it is warm."""
        return self._thread.put(self._read(content)).result()

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(cancel_futures=True)
        self._thread.close()

    async def _predict(self, request: Request) -> Response:
        begin = time.perf_counter()
        if self._open >= self._limits.requests:
            return refusal(503, f"{self._open} requests are being answered: ask again", close=True, retry=1)
        self._open += 1
        self._metrics.open.set(self._open)
        try:
            found = await self._answered(request)
        except _Refused as refused:
            return refused.response
        finally:
            self._open -= 1
            self._metrics.open.set(self._open)
        self._metrics.predicted(time.perf_counter() - begin)
        return JSONResponse(found)

    async def _answered(self, request: Request) -> dict[str, Any]:
        """The answer for the picture of a request.

        Raises:
            _Refused: there is none.
        """
        wanted, late = self._wanted(request), 408
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise _Refused(415, "send the picture itself as the body, no form: curl --data-binary @cat.jpg")
        try:
            async with asyncio.timeout(self._limits.seconds):
                content = await request.body()
                late = 503
                item = await self._in_reader(lambda: self._read(content))
                answer = await asyncio.wrap_future(self._thread.put(item))
                return await self._in_reader(lambda: self._written(answer, content, wanted))
        except TimeoutError as error:
            what = "the body did not come" if late == 408 else "there was no answer"
            again = None if late == 408 else 1
            raise _Refused(late, f"{what} within {self._limits.seconds:g} seconds", again) from error
        except ClientDisconnect as error:
            raise _Refused(400, "the body ended early") from error
        except (PictureTooLarge, OutOfMemory) as error:
            raise _Refused(413, str(error)) from error
        except SampleError as error:
            raise _Refused(422, f"{_WHERE}: {error.reason}") from error

    def _wanted(self, request: Request) -> set[str]:
        """What is asked for besides the answer."""
        asked = request.query_params
        for name, value in asked.multi_items():
            if name not in self._options or value not in _VALUES:
                there = ", ".join(f"{option}=true" for option in self._options) or "none"
                raise _Refused(400, f"{name}={value}: parameters of this model: {there}")
        return {name for name, value in asked.items() if _VALUES[value]}

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _read(self, content: bytes) -> Item:
        """A picture as the model takes it.

        Raises:
            _Refused: it is none.
            SampleError: it is damaged or too large.
        """
        if format_of(content) is None:
            raise _Refused(415, f"the body is no picture: {', '.join(FORMATS)} are read")
        pixels, most = stored_pixels(content, _WHERE), self._limits.pixels
        if pixels > most:
            raise _Refused(413, f"{_WHERE} has {pixels:,} pixels, more than the {most:,} that are taken")
        item: Item = self._asking.items([0], lambda _: _fields(content))[0]
        if isinstance(item[0], SampleError):
            raise item[0]
        return item

    def _written(self, answer: Answer, content: bytes, wanted: set[str]) -> dict[str, Any]:
        """An answer as JSON has it."""
        found = self._answers.record(answer)
        if DRAWN in wanted:
            picture = self._asking.predictor.samples.decode(_fields(content))
            drawn = Image.fromarray(self._answers.drawn(picture, answer))
            drawn.thumbnail((_SHOWN, _SHOWN))
            found["drawn"] = _as_url(drawn, "jpeg", quality=90)
        if MASK in wanted:
            found["mask_png"] = _as_url(self._answers.mask(answer), "png")
        return found

    async def _count(self, request: Request) -> Response:  # noqa: ARG002 - as starlette calls it
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _fields(content: bytes) -> Fields:
    return {"image": Encoded(content, _WHERE)}


def _as_url(image: Image.Image, kind: str, **options: Any) -> str:
    """A picture within a text."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files(__package__) / "page" / name).read_bytes()

    async def answer(request: Request) -> Response:  # noqa: ARG001 - as starlette calls it
        return Response(content, media_type=kind)

    return answer


def _always(content: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:  # noqa: ARG001 - as starlette calls it
        return JSONResponse(content)

    return answer


async def _http(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as starlette calls it
    assert isinstance(error, HTTPException)
    made = refusal(error.status_code, error.detail)
    made.headers.update(error.headers or {})
    return made


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette logs the error
    return refusal(500, "this is a fault of the program: its own output says more")

"""A service from its config to its end, whatever the task."""

from __future__ import annotations

import io
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from PIL import Image

from hornet_train.config.schema import EvalConfig
from hornet_train.data.sources.listing import with_count
from hornet_train.engine.launched import launched_world_size
from hornet_train.errors import ConfigError
from hornet_train.run.asking import Asking
from hornet_train.run.open_predictor import open_predictor
from hornet_train.run.process import chosen_device, set_up_process
from hornet_train.serving.application import Application
from hornet_train.serving.service_wanted import Service
from hornet_train.tasks.kit import Kit

_KEEP_ALIVE = 5  # seconds that a connection may be idle
_BACKLOG = 256  # connections that wait to be taken
_FIRST = (320, 240)  # pixels of a picture that is asked about before the service begins
_log = logging.getLogger("hornet_train")


def run_service(
    kit: Kit[Any, Any],
    config: EvalConfig,
    service: Service,
    notes: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> None:
    """Answer for pictures over HTTP until SIGINT or SIGTERM; what is being answered then is answered first.

    Args:
        notes: what is known of the config.
        quiet: say nothing but warnings.

    Raises:
        UserError: the checkpoint is at fault, or the address cannot be listened on.
    """
    assert config.checkpoint is not None
    if launched_world_size() > 1:
        raise ConfigError(["--serve is for one process: start it without torchrun"])
    with service.bound() as listener:
        host, port = listener.getsockname()[:2]
        device = chosen_device(config.dist)
        set_up_process(config.dist, device, deterministic=False)
        predictor = open_predictor(kit, config, device, service.asked, notes)
        model = {
            "checkpoint": Path(config.checkpoint).resolve().name,
            "task": kit.schema.name,
            "classes": list(predictor.classes),
            "draws": predictor.answers.draws,
        }
        asking = Asking(predictor, device, config.precision)
        application = Application(asking, service, config.batch_size, model)
        application.answer_now(_picture())  # loops are compiled with the first one
        listener.listen(_BACKLOG)
        if not quiet:
            for note in predictor.notes:
                _log.info("%s", note)
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            classes = with_count(len(predictor.classes), "class")
            _log.info("%s (%s) answers at %s, Ctrl-C ends it", model["checkpoint"], classes, address)
        settings = uvicorn.Config(
            application.app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=round(service.limits.seconds) + 1,
        )
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
                uvicorn.Server(settings).run(sockets=[listener])
        finally:
            application.close()
        if not quiet:
            _log.info("ended")


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", _FIRST, "grey").save(file, "jpeg")
    return file.getvalue()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal calls it
    raise KeyboardInterrupt

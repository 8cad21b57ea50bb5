"""The service's description for programs: OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from hornet_train.images.formats import FORMATS
from hornet_train.serving.service_wanted import Limits
from hornet_train.tasks.predictor_types import Answers

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_URL = {"type": "string", "pattern": "^data:image/"}
DRAWN, MASK = "drawn", "mask"
_OPTIONS = {
    DRAWN: "whether `drawn` is in the answer: the picture with the answer on it, at most 1,600 pixels wide "
    "and high, as a data: URL of a JPEG",
    MASK: "whether `mask_png` is in the answer: a data: URL of a PNG, of the picture's size, with the number "
    "of each pixel's class (segmentation) or object (detection)",
}


def options_of(answers: Answers) -> list[str]:
    """What may be asked for besides the answer itself."""
    return [DRAWN] * answers.draws + [MASK] * answers.masks


def description(model: Mapping[str, Any], answers: Answers, limits: Limits) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        model: what `/model` answers.
        answers: of the model.
        limits: of a request.
    """
    schema = dict(answers.schema)
    extra = {DRAWN: (DRAWN, _URL), MASK: ("mask_png", _URL)}
    properties = {**schema["properties"], **dict(extra[name] for name in options_of(answers))}
    refusals = {
        "400": "a parameter that there is not",
        "403": "sent by a page of another origin",
        "408": "the body did not come in time",
        "411": "a body without Content-Length",
        "413": f"more than {limits.body:,} bytes or {limits.pixels:,} pixels, or than the memory holds",
        "415": "no picture",
        "421": "a Host that this machine is not called",
        "422": "a damaged picture",
        "503": "too many requests at once, or no answer in time: ask again",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    predict = {
        "summary": "What the model says of a picture",
        "operationId": "predict",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "description": _OPTIONS[name],
                "schema": {"type": "boolean", "default": False},
            }
            for name in options_of(answers)
        ],
        "requestBody": {
            "required": True,
            "description": f"The file of one picture itself, no form: {', '.join(FORMATS)}. The type that is "
            "sent with it does not matter.",
            "content": {"image/*": _PICTURE, "application/octet-stream": _PICTURE},
        },
        "responses": {
            "200": {
                "description": "the answer",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **{status: {"description": reason, "content": error} for status, reason in refusals.items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{model['checkpoint']} ({model['task']})",
            "description": "Answers of one model for pictures, by hornet-predict --serve.",
            "version": version("hornet-train"),
        },
        "paths": {
            "/predict": {"post": predict},
            "/model": {"get": _get("The model: its task and classes", "model", "application/json")},
            "/health": {"get": _get("Whether it answers", "health", "application/json")},
            "/metrics": {"get": _get("Counts for Prometheus", "metrics", "text/plain")},
        },
        "components": {"schemas": {"Answer": {**schema, "properties": properties}, "Error": _ERROR}},
    }


def _get(summary: str, name: str, kind: str) -> dict[str, Any]:
    schema = {"type": "string" if kind.startswith("text") else "object"}
    return {
        "summary": summary,
        "operationId": name,
        "responses": {"200": {"description": summary, "content": {kind: {"schema": schema}}}},
    }

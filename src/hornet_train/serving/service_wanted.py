"""How a model is to be served, in plain values; imports no torch, so that mistakes are told at once."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from importlib.util import find_spec

from hornet_train.errors import ConfigError
from hornet_train.tasks.asked import Asked

PACKAGES = ("starlette", "uvicorn", "prometheus_client")
_HERE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        body: bytes of a picture's file.
        pixels: of a picture.
        seconds: from the request to its answer.
        requests: that are read or wait for the model at a time.
    """

    body: int = 16 * 10**6
    pixels: int = 50 * 10**6
    seconds: float = 30.0
    requests: int = 64


@dataclass(frozen=True)
class Service:
    """How a model is to be served.

    Attributes:
        host: the address that is listened on.
        port: 0: one that is free.
        names: by which requests may call this machine, besides localhost.
        limits: of each request.
        asked: of every answer.
    """

    host: str = _HERE[0]
    port: int = 8000
    names: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    asked: Asked = field(default_factory=Asked)

    @property
    def hosts(self) -> frozenset[str]:
        """The names in lower case, without ports, that a request's Host may have."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)
        return frozenset(name.lower() for name in (*_HERE, *own, *self.names))

    def check(self) -> None:
        """Find what is wrong before anything is built.

        Raises:
            ConfigError: a package is missing, or nobody could be answered.
        """
        if missing := [name.replace("_", "-") for name in PACKAGES if find_spec(name) is None]:
            raise ConfigError(
                [f"--serve needs {', '.join(missing)}: pip install 'hornet-train[serve]' installs them"]
            )
        if self.host in ("0.0.0.0", "::") and not self.names:
            raise ConfigError(
                [f"--host={self.host} is for other machines: --allow-host says what they call this one"]
            )

    def bound(self) -> socket.socket:
        """A socket at the address. It listens as soon as there is a model to answer.

        Raises:
            ConfigError: there is no such address here, or the port is taken.
        """
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            made = socket.socket(family, kind, protocol)
        except OSError as error:
            raise ConfigError([f"--host={self.host}: {error.strerror or error}"]) from error
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError as error:
            made.close()
            where = f"--host={self.host} --port={self.port}"
            raise ConfigError(
                [f"{where} cannot be listened on: {error.strerror}; another --port may be free"]
            ) from error
        return made

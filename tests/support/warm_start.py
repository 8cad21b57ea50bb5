"""Commands that start with everything already imported, which saves half the time of a short run.

A server imports torch, timm and the commands once, and forks a process for each call. That process has its
own working folder, environment, output and exit code, like a command that a user types; torchrun's agent
forks its ranks likewise. Only the imports themselves are not tested this way: `helpers.run(..., fresh=True)`
and `processes.started` start a new Python. The server is not used on a machine with a GPU, as CUDA does not
survive a fork.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import uuid
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

COMMANDS = {
    "hornet-train": "hornet_train.cli.train",
    "hornet-eval": "hornet_train.cli.evaluate",
    "hornet-info": "hornet_train.cli.info",
    "hornet-data": "hornet_train.cli.data",
    "hornet-bench": "hornet_train.cli.bench",
    "hornet-predict": "hornet_train.cli.predict",
    "hornet-export": "hornet_train.cli.export",
}
LAUNCHER = "torchrun"
# What the commands import only when there is something to do.
IMPORTED_LATER = (
    "torch",
    "torch.distributed.run",
    "timm",
    "numba",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "hydra._internal.config_loader_impl",
    "hornet_train.config.compose_train",
    "hornet_train.config.compose_eval",
    "hornet_train.run.training",
    "hornet_train.run.evaluate_checkpoint",
    "hornet_train.tasks.classification.build.kit",
    "hornet_train.tasks.detection.build.kit",
    "hornet_train.tasks.segmentation.build.kit",
    "hornet_train.report.curves",
)
# Prefixes of environment variables that libraries read at import. If one of these variables differs from the
# server's, the command starts as a new Python instead.
AT_IMPORT = ("OMP", "MKL", "OPENBLAS", "TORCH", "PYTORCH", "CUDA", "NUMBA", "PYTHON", "MPL", "LD_", "HF_",
             "XDG", "WANDB", "HORNET", "KINETO", "HOME")  # fmt: skip


class Server:
    """The server's process, started at the first call."""

    def __init__(self) -> None:
        self.environment = at_import(os.environ)
        ours, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.channel = ours
        atexit.register(self.close)

    def run(
        self, command: list[str], *, cwd: str | Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Like subprocess.run with captured text."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            asked = {"command": command, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
            message = json.dumps(asked).encode() + b"\n"
            self.channel.settimeout(None)
            socket.send_fds(self.channel, [message[:1]], [out.fileno(), err.fileno()])
            self.channel.sendall(message[1:])
            process = int(self.reply())
            try:
                self.channel.settimeout(timeout)
                code = int(self.reply())
            except BaseException as error:  # Ctrl-C and a test's time limit too
                self.channel.settimeout(None)
                os.kill(process, signal.SIGKILL)
                self.reply()
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(command, timeout) from error
                raise
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(command, code, *texts)

    def reply(self) -> str:
        """Read a line from the server. Raises TimeoutError after the channel's timeout."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.channel.recv(1)
            if not byte:
                raise RuntimeError("the server of tests/support/warm_start.py has ended")
            line += byte
        return line.decode()

    def close(self) -> None:
        self.channel.close()
        self.process.wait()


_server: Server | None = None


def at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that libraries read at import."""
    return {name: value for name, value in environment.items() if name.startswith(AT_IMPORT)}


def server_for(command: tuple[str, ...]) -> Server | None:
    """The server, if it can run this command in the current environment; else None."""
    global _server
    if Path("/dev/nvidiactl").exists():
        return None
    if command[0] not in COMMANDS and command[:2] != (LAUNCHER, "--standalone"):
        return None
    if _server is None:
        _server = Server()
    return _server if _server.environment == at_import(os.environ) else None


def warm_up() -> None:
    """Import what a training and an evaluation import, and load the compiled loops."""
    for module in (*COMMANDS.values(), *IMPORTED_LATER):
        import_module(module)
    from hydra.core.plugins import Plugins

    from hornet_train.images.policies.parse import parse_policy
    from hornet_train.tasks.classification.transforms import TrainTransform

    Plugins.instance()
    policy = parse_policy("rand-m9-mstd0.5-inc1", (0, 0, 0), "bicubic")
    TrainTransform(8, policies=(policy,)).warm_up()


def serve(channel: socket.socket) -> None:
    """For each request: fork, send the process id, wait, send the exit code; until the channel is closed."""
    warm_up()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 65536, 2)
        if not message:
            return
        while not message.endswith(b"\n"):
            message += channel.recv(65536)
        process = os.fork()
        if process == 0:
            channel.close()
            become(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(asked: dict[str, Any], out: int, err: int) -> NoReturn:
    """Run the requested command in this process, and exit."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = asked["command"]
        sys.path[0] = str(Path(sys.executable).parent)  # as for the script that a user starts
        name = Path(sys.argv[0]).name
        if name == LAUNCHER:
            launch(sys.argv[1:])
        else:
            import_module(COMMANDS[name]).main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - printed, as Python does before it exits
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def launch(arguments: list[str]) -> None:
    """What `torchrun --standalone` does with these arguments, but that its ranks are forked."""
    from dataclasses import replace

    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    asked = parse_args(arguments)
    asked.rdzv_backend, asked.rdzv_endpoint, asked.master_port = "c10d", "localhost:0", 29500
    config, _, _ = config_from_args(asked)
    rank = ("-m" if asked.module else "", asked.training_script, asked.training_script_args)
    elastic_launch(replace(config, start_method="fork", run_id=str(uuid.uuid4())), be_rank)(*rank)


def be_rank(flag: str, script: str, arguments: list[str]) -> None:
    """Run a module (flag -m) or a script as `python -u` does."""
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path.cwd() if flag else Path(script).parent)
    try:
        if flag:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        if ended.code:  # a rank that ends well has to return
            raise


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest handles Ctrl-C; the commands set their own handler
    serve(socket.socket(fileno=int(sys.argv[1])))

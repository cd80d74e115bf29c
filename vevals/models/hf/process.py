"""A worker process and the pipe to it: an interpreter of its own that loads one model and answers what it is asked.

It is not made with ``multiprocessing``, which runs the user's script once more in every process: scripts without a
``__main__`` guard would fail, and could import torch before the device is set. Both sides speak in pickled messages
over the worker's standard streams. A worker ends when the pipe does, however the parent ended.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from vevals.engine.files import one_line
from vevals.errors import ModelError
from vevals.models.hf.local import LocalModel
from vevals.models.hf.settings import Settings
from vevals.types import Request, RequestKind

Message = tuple[Any, ...]
"""From a worker: ``ready``; ``answer`` and a response; ``done`` and the model's conditions; ``refused`` and a
ModelError's sentence; ``broke``, what happened and whether memory ran out; and for one that has ended, ``gone``."""
_START = "import sys; sys.path[:] = {path!r}; from vevals.models.hf.process import serve; serve()"
_GONE = (EOFError, OSError, ValueError, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a worker makes its model: what ``LocalModel`` is made of, with files that lie on this disk already."""

    made: type[LocalModel]
    name: str
    source: str
    path: Path
    settings: Settings

    def model(self) -> LocalModel:
        """The model with its weights on the device."""
        model = self.made(self.source, self.path, self.settings)
        model.name = self.name
        model._open()
        return model


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker sits: the device as the user calls it, what it is called inside, and the worker's environment."""

    device: str
    inside: str
    environment: Mapping[str, str]


class Worker:
    """The parent's end of a worker process, and what it has been asked and not answered (``open``, by id)."""

    def __init__(self, seat: int, place: Seat, heard: Callable[[Worker, Message], None]) -> None:
        self.seat, self.device = seat, place.device
        self.busy = self.ready = False
        self.open: dict[str, Request] = {}
        self.cause, self.memory = "", False
        command = [sys.executable, "-c", _START.format(path=[str(folder) for folder in sys.path])]
        environment = {**os.environ, **place.environment}
        with _without_interrupts():
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._questions = cast("BinaryIO", self.process.stdin)
        self._answers = cast("BinaryIO", self.process.stdout)
        arguments = (self._answers, lambda message: heard(self, message if isinstance(message, tuple) else ("gone",)))
        self._reader = threading.Thread(target=_listen, args=arguments, daemon=True)
        self._reader.start()

    def ask(self, kind: RequestKind, requests: Sequence[Request]) -> None:
        """Have it answer ``requests``; it answers one such list at a time."""
        self.busy, self.open = True, {request.id: request for request in requests}
        self.send((kind, requests))

    def send(self, message: Any) -> None:
        """A worker that is dead already hears nothing; its reader says so."""
        with contextlib.suppress(OSError):
            _say(self._questions, message)

    def stop(self) -> None:
        """End it now, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=10)
        for stream in (self._questions, self._answers):
            with contextlib.suppress(OSError):
                stream.close()

    @property
    def end(self) -> str:
        """How it ended, as far as that is known."""
        code = self.process.returncode
        if self.cause or code is None:
            return self.cause
        if code >= 0:
            return f"its process ended with status {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"its process ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
        return f"its process ended by signal {-code}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started here inherits that Ctrl-C is not for it. One that comes now is heard by us afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(stream: BinaryIO, message: Any) -> None:
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _listen(stream: BinaryIO, heard: Callable[[Any], None]) -> None:
    """Pass on what comes; at last None when the other side is gone, or the error of a message that cannot be read."""
    while True:
        try:
            message = pickle.load(stream)
        except Exception as error:
            heard(None if isinstance(error, _GONE) else error)
            return
        heard(message)


def serve() -> None:
    """The whole life of a worker process, which ends when nobody can ask it any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = _own_streams()
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions, lambda one: _hear(asked, one)), daemon=True).start()
    try:
        _work(asked, answers)
    except ModelError as error:
        _say(answers, ("refused", str(error)))
    except Exception as error:
        _say(answers, ("broke", one_line(error), _no_memory(error)))
    os._exit(1)


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The standard streams as private ones; what anything else prints from now on goes where errors go."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    return questions, answers


def _hear(asked: queue.SimpleQueue[Any], message: Any) -> None:
    """End the process when nobody can ask any more, even in the middle of a forward pass."""
    if message is None:
        os._exit(0)
    asked.put(message)


def _work(asked: queue.SimpleQueue[Any], answers: BinaryIO) -> None:
    model = _taken(asked).model()
    _say(answers, ("ready",))
    while True:
        kind, requests = _taken(asked)
        for response in getattr(model, kind)(requests):
            _say(answers, ("answer", response))
        _say(answers, ("done", dict(getattr(model, "conditions", {}))))


def _taken(asked: queue.SimpleQueue[Any]) -> Any:
    message = asked.get()
    if isinstance(message, Exception):
        raise message
    return message


def _no_memory(error: Exception) -> bool:
    """Whether memory ran out; any other error is a fault of ours, and its traceback helps to find it."""
    from vevals.engine.network import out_of_memory

    if out_of_memory(error):
        return True
    traceback.print_exception(error)
    return False

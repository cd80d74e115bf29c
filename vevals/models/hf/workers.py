"""One model in several processes, one a device: who is asked what, and what becomes of requests when a process dies."""

from __future__ import annotations

import os
import queue
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from vevals.engine.gguf import converted
from vevals.engine.handout import bundles, job, least_cost
from vevals.engine.load import physical_cores
from vevals.errors import ModelError
from vevals.models.hf.local import LocalModel
from vevals.models.hf.process import Message, Recipe, Seat, Worker
from vevals.models.hf.responses import failed
from vevals.types import ErrorKind, Request, RequestKind, Response

KINDS: tuple[RequestKind, ...] = ("generate", "loglikelihood", "rolling", "classify")
AGAIN = 8
"""What a dead worker leaves is dealt out once more in this many bundles a device: few fall with one that kills."""
DEATHS = 3
"""A device is given up, until ``close``, when its workers died this often in a row without an answer."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


class ParallelModel:
    """A local model that is answered by a worker process on each of its devices. ``parallel`` makes one.

    Workers are started at the first question and kept until ``close``, the end of this process, or a call that is not
    read to its end. One call at a time: a new one ends an older one that is still open.
    """

    plain_prompts: ClassVar[bool] = True

    def __init__(self, front: LocalModel) -> None:
        self.name = front.name
        self._front = front
        self._crew: _Crew | None = None
        self._reports: Mapping[str, Any] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """That of the model on one device: how many there are changes the speed only."""
        return self._front.identity

    @property
    def template(self) -> str | None:
        """The chat template in use; None when messages are joined to plain text."""
        return self._front.template

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers loads it."""
        return self._front.tokenizer

    @property
    def conditions(self) -> Mapping[str, Any]:
        """The devices, what the workers say of themselves, and how many died."""
        return {"devices": self._front._settings.device.split(","), **self._reports}

    def close(self) -> None:
        """End the workers. A later question starts them again."""
        if self._crew is not None:
            self._crew.stop()
        self._crew = None

    def _responses(self, kind: RequestKind, requests: Sequence[Request]) -> Iterator[Response]:
        if not requests:
            return
        crew = self._free_crew()
        crew.busy = True
        try:
            yield from _Call(crew, kind, requests).responses()
            crew.busy = False
        finally:
            self._reports = crew.reports()
            if crew.busy:
                crew.stop()

    def _free_crew(self) -> _Crew:
        """The workers at hand, unless they have been stopped or are at work for an older call."""
        if self._crew is not None and self._crew.busy:
            self._crew.stop()
        if self._crew is None or self._crew.stopped:
            self._crew = _Crew(_recipe(self._front, self.name), seats(self.name, self._front._settings.device))
            weakref.finalize(self, self._crew.stop)
        return self._crew


def parallel(front: LocalModel) -> ParallelModel:
    """``front``, which is never loaded itself, with workers behind it: it can be asked whatever ``front`` can."""
    methods: dict[str, Any] = {kind: _asking(kind) for kind in KINDS if hasattr(front, kind)}
    if (check := getattr(front, "check_labels", None)) is not None:
        methods["check_labels"] = staticmethod(check)
    made: type[ParallelModel] = type("ParallelModel", (ParallelModel,), methods)
    return made(front)


def _asking(kind: RequestKind) -> Any:
    def ask(self: ParallelModel, requests: Sequence[Request]) -> Iterator[Response]:
        return self._responses(kind, requests)

    return ask


def _recipe(front: LocalModel, name: str) -> Recipe:
    """What the workers are to make. A file that has to be fetched or converted is so now, once."""
    front.name = name
    _ = front.template
    if front._path.is_file():
        converted(front._path)
    return Recipe(type(front), name, front._source, front._path.absolute(), front._settings)


def seats(name: str, device: str) -> list[Seat]:
    """A seat for each of the devices, with equal shares of the cores.

    Raises:
        ModelError: there is no such GPU.
    """
    if device.startswith("cpu"):
        shown = device.split(",")
        return [Seat(one, "cpu", {VISIBLE: "", **_threads(len(shown))}) for one in shown]
    gpus = _gpus()
    numbers = range(len(gpus)) if device == "all" else [int(one.partition(":")[2] or 0) for one in device.split(",")]
    missing = [f"cuda:{number}" for number in numbers if number >= len(gpus)]
    if missing or not gpus:
        wrong = missing[0] if missing else device
        raise ModelError(f"'{name}': device is '{wrong}', but there are {len(gpus)} visible GPUs; name others, or cpu")
    shares = _threads(len(numbers))
    return [Seat(f"cuda:{number}", "cuda", {VISIBLE: gpus[number], **shares}) for number in numbers]


def _gpus() -> list[str]:
    """The visible GPUs, as the environment of a worker calls them. Counting them takes no memory on any."""
    import torch

    named = os.environ.get(VISIBLE)
    count = torch.cuda.device_count()
    return [one.strip() for one in named.split(",")][:count] if named else [str(number) for number in range(count)]


def _threads(workers: int) -> dict[str, str]:
    """An equal share of the threads that one process would use."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    share = str(max(1, (int(given) if given.isdecimal() else _cores()) // workers))
    return {"OMP_NUM_THREADS": share, "RAYON_NUM_THREADS": os.environ.get("RAYON_NUM_THREADS", share)}


def _cores() -> int:
    """Physical cores that this process may use; all its processors where the system does not tell."""
    if (known := physical_cores()) is not None:
        return known
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Crew:
    """The worker processes of one model, at most one a seat."""

    def __init__(self, recipe: Recipe, places: Sequence[Seat]) -> None:
        self.recipe, self.places = recipe, places
        self.messages: queue.SimpleQueue[tuple[Worker, Message]] = queue.SimpleQueue()
        self.workers: dict[int, Worker] = {}
        self.deaths = dict.fromkeys(range(len(places)), 0)
        self.given_up: set[int] = set()
        self.conditions: dict[int, Mapping[str, Any]] = {}
        self.died = 0
        self.busy = self.stopped = False

    def free(self, wanted: int) -> list[Worker]:
        """At most ``wanted`` workers that have nothing to do: those that are there, then new ones."""
        idle = [worker for worker in self.workers.values() if not worker.busy][:wanted]
        empty = [seat for seat in range(len(self.places)) if seat not in self.workers and seat not in self.given_up]
        return [*idle, *map(self._hired, empty[: wanted - len(idle)])]

    def _hired(self, seat: int) -> Worker:
        place = self.places[seat]
        self.workers[seat] = worker = Worker(seat, place, lambda worker, message: self.messages.put((worker, message)))
        worker.send(replace(self.recipe, settings=replace(self.recipe.settings, device=place.inside)))
        return worker

    def bury(self, worker: Worker) -> None:
        """Take note of a death. A seat is given up where a worker could not even load the model."""
        worker.stop()
        self.workers.pop(worker.seat, None)
        self.died += 1
        self.deaths[worker.seat] += 1
        if not worker.ready or self.deaths[worker.seat] >= DEATHS:
            self.given_up.add(worker.seat)

    @property
    def at_work(self) -> bool:
        """Whether any worker has not said yet that it is done."""
        return any(worker.busy for worker in self.workers.values())

    def reports(self) -> Mapping[str, Any]:
        """What is known of the workers, in the order of the devices."""
        said = [dict(self.conditions[seat]) for seat in sorted(self.conditions)]
        return {"devices": [place.device for place in self.places], "workers": said, "workers_died": self.died}

    def stop(self) -> None:
        """End all workers now, and for good."""
        self.stopped = True
        for worker in list(self.workers.values()):
            worker.stop()
        self.workers.clear()


@dataclass(slots=True)
class _Call:
    """One call of the model: what waits to be handed out, and how many requests are unanswered (``left``)."""

    crew: _Crew
    kind: RequestKind
    requests: Sequence[Request]
    waiting: deque[Sequence[Request]] = field(default_factory=deque)
    repeated: set[str] = field(default_factory=set)
    left: int = 0

    def responses(self) -> Iterator[Response]:
        """One for each request, as they come.

        Raises:
            ModelError: the model cannot be loaded, no worker is left, or another call has taken the workers.
        """
        self.left = len(self.requests)
        self.waiting.extend(self._dealt(self.requests, len(self.crew.places), full=True))
        while self.left or self.crew.at_work:
            if self.crew.stopped:
                raise ModelError(f"'{self._name}' was closed, or asked anew, before it had answered everything")
            for worker in self.crew.free(len(self.waiting)):
                worker.ask(self.kind, self.waiting.popleft())
            worker, (word, *said) = self.crew.messages.get()
            for response in self._heard(worker, word, said):
                self.left -= 1
                yield response

    @property
    def _name(self) -> str:
        return self.crew.recipe.name

    def _dealt(self, requests: Sequence[Request], workers: int, full: bool) -> list[list[Request]]:
        jobs = [job(request, self.kind) for request in requests]
        least = least_cost(jobs, self.kind, self.crew.places[0].inside) if full else 0.0
        return [[requests[index] for index in bundle] for bundle in bundles(jobs, workers, least)]

    def _heard(self, worker: Worker, word: str, said: Sequence[Any]) -> Iterator[Response]:
        match word:
            case "ready":
                worker.ready = True
            case "answer":
                yield self._answered(worker, *said)
            case "done":
                self._done(worker, *said)
            case "refused":
                raise ModelError(*said)
            case "broke":
                worker.cause, worker.memory = said
            case "gone":
                yield from self._gone(worker)

    def _answered(self, worker: Worker, response: Response) -> Response:
        if worker.open.pop(response.id, None) is None:
            raise ModelError(f"'{self._name}' answered '{response.id}' twice, or without being asked")
        self.crew.deaths[worker.seat] = 0
        return response

    def _done(self, worker: Worker, conditions: Mapping[str, Any]) -> None:
        if worker.open:
            first = next(iter(worker.open))
            raise ModelError(f"'{self._name}' left {len(worker.open)} requests unanswered, '{first}' first")
        self.crew.conditions[worker.seat] = conditions
        worker.busy = False

    def _gone(self, worker: Worker) -> Iterator[Response]:
        """Hand out once more, last and in small bundles, what a worker leaves unanswered; then it is an error."""
        self.crew.bury(worker)
        left = list(worker.open.values())
        if not worker.ready:
            self.waiting.extend([left] if left else [])  # nobody has read them
        else:
            again = [request for request in left if request.id not in self.repeated]
            yield from (_given_up(request, worker) for request in left if request.id in self.repeated)
            self.repeated.update(request.id for request in again)
            self.waiting.extend(self._dealt(again, AGAIN * len(self.crew.places), full=False))
        if self.left and len(self.crew.given_up) == len(self.crew.places):
            lost = f"the last worker is lost on {worker.device}: {worker.end}"
            raise ModelError(f"'{self._name}': {lost}; name one device to see more of it")


def _given_up(request: Request, worker: Worker) -> Response:
    kind = ErrorKind.out_of_memory if worker.memory else ErrorKind.internal
    message = f"two workers ended before they had answered this, the second on {worker.device}: {worker.end}"
    return failed(request, kind, message)

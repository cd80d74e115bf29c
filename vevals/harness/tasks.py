"""lm-eval's tasks by name: which one is meant, where its YAML lies, what is refused, and how it is loaded.

lm-eval's own index of its 14,000 YAML files takes seconds to build; a task is found here by one pass over their bytes.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from vevals.engine import files
from vevals.errors import BenchmarkError, DataAbsent, MissingExtra
from vevals.harness.requests import options_of
from vevals.spec import near_miss

PREFIX = "lm-eval:"
OPTIONS = ("apply_chat_template", "num_fewshot", "trust_remote_code")
UNREACHABLE = ("ConnectionError", "DatasetNotFoundError", "LocalEntryNotFoundError", "OfflineModeIsEnabled")
_OF_A_GROUP = {"aggregate_metric_list", "group", "group_alias", "include", "metadata", "tag", "task", "task_alias"}
_KEYS = {
    key: re.compile(rb"^[\"']?" + key.encode() + rb"[\"']?:([^\n]*(?:\n[ \t]*-[^\n]*)*)", re.MULTILINE)
    for key in ("class", "group", "include", "tag", "task")
}
_WORD = re.compile(rb"[^\s\"'#\[\]{},]+")

Folders = tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class TaskName:
    """``lm-eval:TASK?num_fewshot=5``. What stands after ``?`` is part of the benchmark's name."""

    task: str
    num_fewshot: int | None = None
    apply_chat_template: bool = False
    trust_remote_code: bool = False

    @property
    def full(self) -> str:
        """The name of the benchmark, options in the order of the alphabet."""
        given = {name: getattr(self, name) for name in OPTIONS}
        shown = [f"{name}={str(value).lower()}" for name, value in given.items() if value not in (None, False)]
        if self.num_fewshot == 0 and "num_fewshot=0" not in shown:
            shown = sorted([*shown, "num_fewshot=0"])
        return f"{PREFIX}{self.task}" + (f"?{'&'.join(shown)}" if shown else "")

    def of(self, task: str) -> TaskName:
        """Another task under the same options."""
        return TaskName(task, self.num_fewshot, self.apply_chat_template, self.trust_remote_code)


def parse(name: str) -> TaskName:
    """``lm-eval:TASK`` with its options; BenchmarkError for an option or value that means nothing."""
    head, mark, query = name.removeprefix(PREFIX).partition("?")
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        given = None
    if not head or given is None or (mark and not given):
        raise BenchmarkError(f"'{name}': write {PREFIX}TASK, or {PREFIX}TASK?option=value&option=value")
    for key, value in given.items():
        if key not in OPTIONS:
            raise BenchmarkError(
                f"'{name}' has no option '{key}'{near_miss(key, OPTIONS)}; it has {', '.join(OPTIONS)}"
            )
        if key == "num_fewshot" and not value.isdecimal():
            raise BenchmarkError(f"'{name}': num_fewshot is '{value}'; use a whole number, 0 or more")
        if key != "num_fewshot" and value not in ("true", "false"):
            raise BenchmarkError(f"'{name}': {key} is '{value}'; use true or false")
    shots = given.get("num_fewshot")
    flags = (given.get(key) == "true" for key in ("apply_chat_template", "trust_remote_code"))
    return TaskName(head, None if shots is None else int(shots), *flags)


def names(pattern: str, include: Folders = ()) -> list[str]:
    """The benchmarks that ``pattern`` stands for: a task, all tasks of a group or a tag, or names with ``*``.

    Of names with ``*`` the tasks count; groups and tags that are called so only where no task is.

    ``include``: folders of further YAML files, which go before lm-eval's own.

    Raises:
        BenchmarkError: there is no such task, or a group that changes the settings of its tasks.
    """
    wanted = parse(pattern)
    heads = [wanted.task]
    if "*" in wanted.task:
        heads = sorted(name for name in _known(include) if fnmatchcase(name, wanted.task))
        if not heads:
            raise BenchmarkError(f"no lm-eval task is called '{wanted.task}'; 'lm-eval ls tasks' lists all")
        heads = [name for name in heads if _entry(name, include).kind not in ("GROUP", "TAG")] or heads
    found = [task for head in heads for task in _expanded(head, include, ())]
    return [wanted.of(task).full for task in dict.fromkeys(found)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded task of lm-eval (``lm_eval.api.task.Task``), seeded as its evaluator does, and its YAML file."""

    task: Any
    path: Path
    tags: tuple[str, ...]


def open_task(wanted: TaskName, include: Folders = ()) -> Opened:
    """Load the task with its data.

    Raises:
        BenchmarkError: no such task, or one that cannot be run here; the sentence says why.
        DataAbsent: its data is on the hub, which cannot be reached.
    """
    entry = _entry(wanted.task, include)
    path = entry.yaml_path
    if entry.kind in ("GROUP", "TAG") or path is None:
        raise BenchmarkError(f"{wanted.full} is a {entry.kind.lower()} of several tasks; name one of them")
    config = _config(entry)
    _refuse(wanted, config)
    with quietly(), _seeded():
        task = _loaded(wanted, path, config)
    if getattr(task, "MULTIMODAL", False) or getattr(task, "UNSAFE_CODE", False):
        raise BenchmarkError(f"{wanted.full} shows images or runs code that a model writes; vevals does neither")
    _set_shots(wanted, task)
    tags = config.get("tag") or ()
    return Opened(task, path, (tags,) if isinstance(tags, str) else tuple(map(str, tags)))


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back what lm-eval and the data library say while they work, and compile each template only once."""
    import datasets
    from lm_eval.utils import env

    bars, before = datasets.are_progress_bars_disabled(), env.__dict__.get("from_string")
    datasets.disable_progress_bars()
    env.from_string = _templates()
    try:
        with _silenced("lm_eval"), _silenced("datasets"), _silenced("huggingface_hub"):
            yield
    finally:
        del env.from_string
        if before is not None:
            env.from_string = before
        if not bars:
            datasets.enable_progress_bars()


@lru_cache(maxsize=1)
def _templates() -> Any:
    """lm-eval compiles a document's templates anew for each document, which takes longer than filling them in."""
    from lm_eval.utils import env

    return lru_cache(maxsize=256)(type(env).from_string.__get__(env))


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def one_line(error: BaseException) -> str:
    """Kind and text of an error of another library."""
    return f"{type(error).__name__}: {files.one_line(error)}"


# -- where a task is -----------------------------------------------------------------------------------------------


def _manager(include: Sequence[Path] = (), everything: bool = False) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingExtra("lm-eval: benchmarks", "lm-eval") from error
    for folder in include:
        if not folder.is_dir():
            raise BenchmarkError(f"{folder}: there is no such folder of lm-eval YAML files")
    with _silenced("lm_eval"):
        return TaskManager(include_path=list(include) or None, include_defaults=everything)


@dataclass(frozen=True, slots=True)
class _Named:
    """What lm-eval calls an entry of its index, as far as it is needed here. ``tags``: the tasks of a tag."""

    kind: str
    yaml_path: Path | None
    tags: set[str]


@lru_cache(maxsize=8)
def _included(include: Folders) -> Mapping[str, _Named]:
    """What lies in the folders given: few files, which lm-eval indexes itself."""
    index = _manager(include).task_index if include else {}
    return {name: _Named(entry.kind.name, entry.yaml_path, entry.tags) for name, entry in index.items()}


@lru_cache(maxsize=1)
def _own() -> Mapping[str, _Named]:
    """lm-eval's own tasks, groups and tags by name, by the rules of its index: of two files the first counts."""
    _manager()
    import lm_eval.tasks

    found: dict[str, _Named] = {}
    keys = _Keys({}, {})
    for path in sorted(path.as_posix() for path in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml")):
        group = [] if keys.of(path, "class") else keys.of(path, "group")
        name = next(iter(group or keys.of(path, "task")), "")
        if not name or name in found:
            continue
        found[name] = _Named("GROUP" if group else "TASK", Path(path), set())
        for tag in () if group else keys.of(path, "tag"):
            found.setdefault(tag, _Named("TAG", None, set())).tags.add(name)
    return found


@dataclass(frozen=True, slots=True)
class _Keys:
    """Looks up keys in the bytes of YAML files, each of which is read once."""

    contents: dict[str, bytes]
    known: dict[tuple[str, str], list[str]]

    def of(self, path: str, key: str) -> list[str]:
        """The words of one key of a file, or else of the files that it includes, the last first."""
        if (path, key) not in self.known:
            self.known[path, key] = self._words(path, key) or self._included(path, key)
        return self.known[path, key]

    def _words(self, path: str, key: str) -> list[str]:
        if path not in self.contents:
            file = Path(path)
            self.contents[path] = file.read_bytes() if file.is_file() else b""
        match = _KEYS[key].search(self.contents[path])
        words = _WORD.findall(match[1]) if match else []
        return [word.decode("utf-8", "replace") for word in words if word != b"-"]

    def _included(self, path: str, key: str) -> list[str]:
        folder = path.rpartition("/")[0]
        paths = (f"{folder}/{name}" for name in reversed(self._words(path, "include")))
        return next((found for one in paths if (found := self.of(one, key))), [])


def _known(include: Folders) -> set[str]:
    return {*_included(include), *_own()}


def _entry(name: str, include: Folders) -> _Named:
    """A task, group or tag: of the folders given, or of lm-eval."""
    found = _included(include).get(name) or _own().get(name)
    if found is None:
        hint = near_miss(name, sorted(_known(include)))
        hint = hint or "; 'lm-eval ls tasks' lists all, --include-path adds your own"
        raise BenchmarkError(f"no lm-eval task is called '{name}'{hint}")
    return found


def _config(entry: _Named) -> dict[str, Any]:
    """The YAML of an entry with what it includes; functions are names."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: dict[str, Any] = load_yaml(entry.yaml_path, resolve_func=False)
    except Exception as error:  # whatever the YAML library or a missing include raises
        raise BenchmarkError(f"{entry.yaml_path}: cannot be read: {one_line(error)}") from error
    return config


def _expanded(name: str, include: Folders, inside: tuple[str, ...]) -> list[str]:
    """The tasks behind a name; ``inside``: the groups that led here."""
    if name in inside:
        raise BenchmarkError(f"the lm-eval group '{name}' contains itself")
    entry = _entry(name, include)
    if entry.kind == "TAG":
        return sorted(entry.tags)
    if entry.kind != "GROUP":
        return [name]
    return _members(name, _config(entry), include, (*inside, name))


def _members(group: str, config: Mapping[str, Any], include: Folders, inside: tuple[str, ...]) -> list[str]:
    own = sorted(set(config) - _OF_A_GROUP)
    items = config.get("task") or []
    found: list[str] = []
    for item in items if isinstance(items, list) else [items]:
        member = {"task": item} if isinstance(item, str) else dict(item)
        own += sorted(set(member) - _OF_A_GROUP)
        if own:
            raise BenchmarkError(
                f"the lm-eval group '{group}' changes the settings of its tasks ({own[0]}); name its tasks one by one, "
                f"with their options, as in {PREFIX}TASK?num_fewshot=5"
            )
        if isinstance(member.get("task"), list):
            found += _members(str(member.get("group", group)), member, include, inside)
        else:
            found += _expanded(str(member.get("group") or member["task"]), include, inside)
    return found


# -- loading -------------------------------------------------------------------------------------------------------


def _refuse(wanted: TaskName, config: Mapping[str, Any]) -> None:
    """What can be seen in the YAML, before any code of the task runs."""
    if config.get("unsafe_code"):
        raise BenchmarkError(f"{wanted.full} runs code that a model writes (unsafe_code); vevals does not run it")
    for key in ("doc_to_image", "doc_to_audio"):
        if config.get(key):
            raise BenchmarkError(f"{wanted.full} shows more than text ({key}), which vevals cannot ask")
    _refuse_votes(wanted, config)
    if (config.get("dataset_kwargs") or {}).get("trust_remote_code") and not wanted.trust_remote_code:
        mark = "&" if "?" in wanted.full else "?"
        raise BenchmarkError(
            f"{wanted.full} wants to run code that comes with its data; if you trust it, write "
            f"{wanted.full}{mark}trust_remote_code=true"
        )


def _refuse_votes(wanted: TaskName, config: Mapping[str, Any]) -> None:
    """Repeats of a greedy answer are equal and need not be asked; those of a drawn one would be several answers."""
    repeats = config.get("repeats") or 1
    generated = config.get("output_type", "generate_until") == "generate_until"
    if repeats > 1 and generated and options_of(config.get("generation_kwargs")).temperature > 0:
        raise BenchmarkError(
            f"{wanted.full} draws {repeats} answers to each question and scores them together, which vevals cannot do; "
            "use a task with one answer, and --repeats for several runs of it"
        )


def _loaded(wanted: TaskName, path: Path, config: Mapping[str, Any]) -> Any:
    from vevals.data.hub import as_offline_as_vevals

    try:
        with as_offline_as_vevals():
            [task] = _manager().load([str(path)])["tasks"].values()
    except Exception as error:  # lm-eval, the data library and the task's own code raise what they like
        data = " ".join(str(config[key]) for key in ("dataset_path", "dataset_name") if config.get(key))
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if any(name in kinds for name in UNREACHABLE):
            raise DataAbsent(
                f"{wanted.full}: its data ({data}) is not on this machine and the Hugging Face hub cannot be reached; "
                "connect once, or copy the cache of a machine that is connected"
            ) from error
        raise BenchmarkError(f"{wanted.full}: lm-eval cannot load it: {one_line(error)}") from error
    return task


@contextmanager
def _seeded() -> Iterator[None]:
    """The random state that lm-eval's evaluator gives to tasks that shuffle their rows; ours is put back."""
    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    ours, of_numpy = random.getstate(), np.random.get_state()
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(of_numpy)


def _set_shots(wanted: TaskName, task: Any) -> None:
    """As lm-eval's evaluator: a task that says 0 keeps it, one that says nothing has 0."""
    own = task.get_config("num_fewshot")
    if wanted.num_fewshot is not None and own == 0 and wanted.num_fewshot:
        raise BenchmarkError(f"{wanted.full}: the task itself says num_fewshot: 0, which lm-eval keeps; leave it out")
    if wanted.num_fewshot is not None or own is None:
        task.set_config(key="num_fewshot", value=wanted.num_fewshot or 0)

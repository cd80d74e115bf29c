"""An lm-eval task as a Benchmark: documents are samples, its prompts are requests, its verdicts are metrics.

lm-eval writes the prompts, filters the replies and judges them; asking, storing and counting are as for any benchmark.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vevals.benchmark import Benchmark, content_hash
from vevals.canonical import canonical_json, sha256_hex
from vevals.errors import BenchmarkError, VevalsError
from vevals.extract import Extractor
from vevals.harness import metrics, requests
from vevals.harness.metrics import Key
from vevals.harness.tasks import TaskName, one_line, open_task, parse, quietly
from vevals.metrics import Metric
from vevals.spec import Spec
from vevals.types import Message, Options, Request, RequestKind, Response, Sample

SCORER_KEYS = ("filter_list", "metric_list", "process_results", "repeats")
ELSEWHERE_KEYS = ("custom_dataset", "dataset_kwargs", "dataset_name", "dataset_path", "generation_kwargs", "metadata")
"""What says where the rows come from: their content counts instead. ``generation_kwargs`` are the options."""
Context = str | list[str]
"""The prompt of a document, or one for each choice."""
Asked = tuple[Context, tuple[Message, ...]]
"""The prompt, and the conversation that it stands for where a chat template is applied."""


@dataclass(frozen=True)
class TaskBenchmark(Benchmark):
    """A task of lm-eval. ``task`` is lm-eval's object; ``temperature`` replaces that of its ``generation_kwargs``."""

    wanted: TaskName = field(default_factory=lambda: TaskName(""))
    task: Any = field(default=None, repr=False)
    temperature: float | None = None

    def at_temperature(self, temperature: float) -> TaskBenchmark:
        """The task with replies drawn at another temperature; itself where it scores choices or texts.

        Raises:
            BenchmarkError: no number from 0 up.
        """
        if not 0 <= temperature < math.inf:
            raise BenchmarkError(f"temperature is {temperature:g}; give 0 (the likeliest reply) or more")
        same = self.kind != "generate" or self.options.temperature == temperature
        return self if same else replace(self, temperature=temperature)

    @property
    def kind(self) -> RequestKind:
        """What is asked of a model."""
        return requests.KINDS[self.task.OUTPUT_TYPE]

    @cached_property
    def _own_options(self) -> Options:
        try:
            return requests.options_of(self.task.get_config("generation_kwargs"))
        except BenchmarkError as error:
            raise BenchmarkError(f"{self.name}: {error}") from None

    @property
    def options(self) -> Options:
        """How text is generated, by the task's ``generation_kwargs``."""
        own = self._own_options if self.kind == "generate" else Options(max_tokens=1)
        return own if self.temperature is None else replace(own, temperature=self.temperature)

    @cached_property
    def extractor(self) -> Extractor:
        """What is shown as the answer: the first filter's reading of a text, or the likeliest choice."""
        return Extractor("lm-eval", {}, 1, self._answer, self._ideal)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the task, the first one being the score."""
        return metrics.of_task(self.task, self._items)

    @cached_property
    def documents(self) -> tuple[Any, ...]:
        """The rows that lm-eval evaluates, in its order."""
        with self._at("the rows"):
            return tuple(doc for _, doc in self.task.doc_iterator())

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The documents: ``id`` is lm-eval's doc_id, ``input`` the question without worked examples."""
        return tuple(self._sample(number, doc) for number, doc in enumerate(self.documents))

    @property
    def shots(self) -> tuple[Sample, ...]:
        """None: the worked examples are lm-eval's affair."""
        return ()

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """One SHA-256 (hex) for each thing that can make two runs incomparable. The version of lm-eval is in two."""
        config = {key: value for key, value in _config(self.task).items() if key not in ELSEWHERE_KEYS}
        scorer = {key: config.pop(key) for key in SCORER_KEYS if key in config}
        lm_eval = version("lm_eval")
        pool = sha256_hex([_plain(doc) for doc in self._pool])
        chat = self.wanted.apply_chat_template
        judges = [[one.name, dict(one.options), one.source_hash] for one in self.metrics]
        return {
            "dataset": sha256_hex(sorted([sample.id, content_hash(sample)] for sample in self.samples)),
            "prompt": sha256_hex([lm_eval, self.kind, config, pool, chat, _code(type(self.task))]),
            "generation": sha256_hex(asdict(self.options)),
            "scorer": sha256_hex([lm_eval, scorer, judges, _code(type(self.task))]),
        }

    @property
    def _shots(self) -> int:
        return int(self.task.get_config("num_fewshot") or 0)

    @property
    def _pool(self) -> Sequence[Any]:
        """The rows that worked examples are drawn from; none where there are no examples."""
        return list(getattr(getattr(self.task, "sampler", None), "df", ())) if self._shots else ()

    # -- what is asked ---------------------------------------------------------------------------------------------

    def messages(self, sample: Sample) -> tuple[Message, ...]:
        """The conversation, where a chat template is applied; lm-eval's plain prompts are no messages."""
        return self.request(sample).messages

    def request(self, sample: Sample, seed: int = 0) -> Request:
        """All that lm-eval asks about a document, as one request."""
        number = int(sample.id)
        context, messages = self._context(number)
        with self._at(f"document {number}"):
            made = self.task.construct_requests(
                doc=self.documents[number],
                ctx=context,
                metadata=(self.wanted.task, number, 1),
                apply_chat_template=self.wanted.apply_chat_template,
                chat_template=None,
            )
            instances = made if isinstance(made, list) else [made]
            if any(len(instance.args) > 2 for instance in instances):
                raise BenchmarkError("it shows more than text")
            if self.kind == "generate" and instances[0].args[1] != self.task.get_config("generation_kwargs"):
                raise BenchmarkError("its documents are answered under different generation_kwargs")
            return replace(requests.request_of(sample.id, instances, messages, self.options), seed=seed)

    def _context(self, number: int) -> Asked:
        if not self._shots:
            return next(self._rendered((number,)))
        known, following = self._contexts
        known.extend(next(following) for _ in range(len(known), number + 1))
        return known[number]

    @cached_property
    def _contexts(self) -> tuple[list[Asked], Iterator[Asked]]:
        """In the order of the documents: which examples are drawn depends on how many were drawn before."""
        return [], self._rendered(range(len(self.documents)))

    def _rendered(self, numbers: Sequence[int]) -> Iterator[Asked]:
        task = _with_own_sampler(self.task)
        for number in numbers:
            turns: list[Sequence[Mapping[str, str]]] = []
            with self._at(f"document {number}"):
                context = _written(task, self.documents[number], self._shots, turns, self.wanted.apply_chat_template)
            yield context, self._conversation(context, turns)

    def _conversation(self, context: Context, turns: Sequence[Sequence[Mapping[str, str]]]) -> tuple[Message, ...]:
        if not self.wanted.apply_chat_template:
            return ()
        unconditional = "acc_mutual_info" in self.task.aggregation()
        if len(turns) != 1 or not isinstance(context, str) or unconditional or turns[0][-1]["role"] != "user":
            raise BenchmarkError(f"{self.name}: its prompts are no conversation; leave apply_chat_template out")
        return tuple(Message(turn["role"], turn["content"]) for turn in turns[0])

    # -- what came back --------------------------------------------------------------------------------------------

    def _items(self, sample: Sample, response: Response) -> Mapping[Key, Any]:
        return self._judged(sample.id, response.text, response.logprobs, response.greedy)

    @cached_property
    def _judged(self) -> Callable[..., Mapping[Key, Any]]:
        """lm-eval's verdicts by metric and filter; each reply is judged once, not once for each metric."""

        @cache
        def judged(name: str, text: str, logprobs: tuple[float, ...], greedy: tuple[bool, ...]) -> dict[Any, Any]:
            filtered = self._filtered(int(name), Response(name, text, logprobs=logprobs, greedy=greedy))
            found = {}
            with quietly():
                for part, results in filtered.items():
                    verdicts = self.task.process_results(self.documents[int(name)], results)
                    found.update({(metric, part): value for metric, value in verdicts.items()})
            return found

        return judged

    def _filtered(self, number: int, response: Response) -> dict[str, list[Any]]:
        """The results of a document after each filter, in lm-eval's own shape."""
        from lm_eval.api.instance import Instance

        repeats = self.task.get_config("repeats") or 1
        facts = (self.wanted.task, number, repeats)
        instances = [
            Instance(self.task.OUTPUT_TYPE, self.documents[number], (), place, facts, resps=[result] * repeats)
            for place, result in enumerate(requests.results_of(self.kind, response))
        ]
        for ensemble in self.task._filters:
            ensemble.apply(instances)
        names = [ensemble.name for ensemble in self.task._filters]
        return {name: [instance.filtered_resps[name] for instance in instances] for name in names}

    def _answer(self, sample: Sample, response: Response) -> str | None:
        if self.kind == "generate":
            with quietly():
                first = next(iter(self._filtered(int(sample.id), response).values()))[0]
            return first if isinstance(first, str) else canonical_json(_plain(first))
        if self.kind == "rolling" or not response.logprobs or any(map(math.isnan, response.logprobs)):
            return None
        if not sample.choices:
            return sample.target[0] if response.greedy[0] and sample.target else None
        scored = response.logprobs[: len(sample.choices)]
        return sample.choices[scored.index(max(scored))]

    def _ideal(self, sample: Sample) -> str:
        """The reply that is right: the text, or what a model is asked to score for the right choice."""
        if self.kind != "loglikelihood":
            return sample.target[0] if sample.target else ""
        offered = self.request(sample).choices
        right = [sample.choices.index(target) for target in sample.target if target in sample.choices]
        return offered[right[0]] if right else offered[0]

    # -- samples ---------------------------------------------------------------------------------------------------

    def _sample(self, number: int, doc: Any) -> Sample:
        with self._at(f"document {number}"):
            fields = {"doc": _plain(doc)}
            if self.kind == "rolling":
                return Sample(str(number), str(self.task.doc_to_target(doc)), (), fields=fields)
            found = _written(self.task, doc, 0, [], chat=False)
            text = found if isinstance(found, str) else "\n".join(found)
            choices, target = _choices(self.task, doc)
            return Sample(str(number), text, target, choices, fields=fields)

    @contextmanager
    def _at(self, where: str) -> Iterator[None]:
        """Whatever lm-eval or the task's own code raises becomes one sentence."""
        try:
            with quietly():
                yield
        except VevalsError as error:
            raise type(error)(f"{self.name}: {where}: {error}") from error
        except Exception as error:
            raise BenchmarkError(f"{self.name}: {where}: {one_line(error)}") from error


def load(name: str, include: tuple[Path, ...] = ()) -> TaskBenchmark:
    """The task ``lm-eval:TASK?option=value``; ``include``: folders of further YAML files.

    Raises:
        BenchmarkError: there is no such task, or it cannot be run here.
        MissingExtra: lm-eval is not installed.
    """
    wanted = parse(name)
    opened = open_task(wanted, include)
    draft = TaskBenchmark(
        wanted.full, opened.path.parent, _spec(wanted, opened.task, opened.tags), {}, wanted, opened.task
    )
    _ = draft.options
    _check_shots(draft)
    chance = _chance(draft)
    made = replace(draft, spec=draft.spec.model_copy(update={"chance": chance}))
    made.__dict__.update(documents=draft.documents, samples=draft.samples)  # read once
    return made


def _check_shots(benchmark: TaskBenchmark) -> None:
    """Refuse more worked examples than there are rows to draw them from."""
    sampler, wanted = getattr(benchmark.task, "sampler", None), benchmark._shots
    rows = getattr(sampler, "df", None)
    if wanted and rows is not None and 0 < len(rows) < wanted:
        raise BenchmarkError(
            f"{benchmark.name} asks for {wanted} worked examples, but there are {len(rows)}; lower num_fewshot"
        )


def _spec(wanted: TaskName, task: Any, tags: Sequence[str]) -> Spec:
    """What the store and the leaderboard want to know of a benchmark, in the words of ``benchmark.yaml``."""
    source = " ".join(str(part) for key in ("dataset_path", "dataset_name") if (part := task.get_config(key)))
    template = task.get_config("doc_to_text")
    return Spec(
        title=f"lm-eval task {wanted.task}",
        version=_version(task.VERSION),
        language=(),
        data="lm-eval",
        prompt=template if isinstance(template, str) else "written by the task",
        answer="lm-eval",
        metrics=tuple(task.aggregation()) or ("none",),
        license="that of its data set",
        source=f"lm-eval {version('lm_eval')}: {source}",
        tags=("lm-eval", *tags),
    )


def _version(given: Any) -> int:
    """The whole number in a task's version (2.0), 1 where it has none."""
    try:
        return max(1, int(float(given)))
    except (TypeError, ValueError):
        return 1


def _chance(benchmark: TaskBenchmark) -> float:
    """What guessing scores where the score is the accuracy of one right choice; else 0."""
    first = next(iter(benchmark.task.aggregation()), "")
    if benchmark.task.OUTPUT_TYPE != "multiple_choice" or not first.startswith("acc"):
        return 0.0
    shares = [len(sample.target) / len(sample.choices) for sample in benchmark.samples if sample.choices]
    chance = round(sum(shares) / len(shares), 4) if shares else 0.0
    return chance if chance < 1 else 0.0


# -- lm-eval's side ------------------------------------------------------------------------------------------------


def _with_own_sampler(task: Any) -> Any:
    """The task with its examples drawn from the start, by the seed of lm-eval's evaluator."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    fresh = copy.copy(task)
    if hasattr(fresh, "sampler"):
        fresh.sampler = copy.copy(fresh.sampler)
    fresh.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return fresh


def _written(task: Any, doc: Any, shots: int, turns: list[Any], chat: bool) -> Context:
    """The context of a document (one, or one for each choice); ``turns`` gets the conversations that it is made of."""

    def keep(messages: Sequence[Mapping[str, str]], **_: bool) -> str:
        turns.append(messages)
        return ""

    context: Context = task.fewshot_context(
        doc,
        num_fewshot=shots,
        system_instruction=None,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        chat_template=keep if chat else None,
        gen_prefix=task.doc_to_prefix(doc),
    )
    return context


def _choices(task: Any, doc: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(choices, right answers) of a document as texts."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE != "multiple_choice":
        offered = list(task.doc_to_choice(doc)) if task.get_config("doc_to_choice") is not None else []
        given = target if isinstance(target, list) else [target]
        return (), tuple(_named(one, offered) for one in given)
    choices = tuple(str(choice) for choice in task.doc_to_choice(doc))
    gold = task.doc_to_text(doc) if task.multiple_input else target
    given = gold if isinstance(gold, list) else [gold]
    return choices, tuple(name for one in given if (name := _named(one, choices)) in choices)


def _named(target: Any, choices: Sequence[str]) -> str:
    """A target that is the number of a choice, as its text. To lm-eval true is the number 1."""
    inside = isinstance(target, int) and 0 <= target < len(choices)
    return str(choices[target]) if inside else str(target)


def _config(task: Any) -> dict[str, Any]:
    """The task's settings as JSON: functions by the text of their file, so that helpers that they call count too."""
    config = task.config
    settings = asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config)
    return {key: _plain(value) for key, value in settings.items() if value is not None}


def _plain(value: Any) -> Any:
    """``value`` as JSON can say it; what it cannot (a picture) by kind and text, which is the same on every machine."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        listed = [_plain(one) for one in value]
        return sorted(listed, key=canonical_json) if isinstance(value, set | frozenset) else listed
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return _code(value) if callable(value) else f"{type(value).__name__} {value}"


def _code(value: Any) -> list[str]:
    """Name of a function or class, and SHA-256 (hex) of the file that it stands in, or of all code beside a user's."""
    called = getattr(value, "__qualname__", type(value).__name__)
    if getattr(value, "__module__", "").startswith("lm_eval.api"):
        return [called]
    try:
        files = _files(Path(inspect.getfile(value)).resolve())
        contents = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files]
    except (OSError, TypeError):
        contents = [[called]]
    return [called, contents[0][-1] if len(contents) == 1 else sha256_hex(contents)]


def _files(file: Path) -> list[tuple[str, Path]]:
    """The code that a function's file can call, by relative path: all below its folder, unless it is installed."""
    import lm_eval

    folder = file.parent
    if "site-packages" in file.parts or file.is_relative_to(Path(lm_eval.__file__).resolve().parent):
        return [(file.name, file)]
    found = {path.relative_to(folder): path for path in (file, *folder.rglob("*.py"))}
    return [
        (name.as_posix(), path)
        for name, path in sorted(found.items())
        if not any(part.startswith(".") or part == "site-packages" for part in name.parts)
    ]

"""The workloads: rendered texts that every tool gets word for word, made by seeded code from a tokenizer's counts."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from perf import texts
from perf.texts import Count

Kind = Literal["loglikelihood", "rolling", "generate", "classify"]
Part = Literal["causal", "seq2seq", "classifier"]

ROOT = Path(__file__).resolve().parent.parent.parent
BANKING = "raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b"
LETTERS = ("A", "B", "C", "D")
SCALE_LEAST = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One request. A choice is glued to the context as it is. ``target`` is the index of the right choice, if any."""

    id: str
    context: str
    choices: tuple[str, ...] = ()
    target: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one kind for one kind of model. ``sweep``: the share of them that finds the peer's best setting.

    ``speed`` is False where only the scores are compared.
    """

    name: str
    title: str
    kind: Kind
    items: tuple[Item, ...]
    sweep: tuple[Item, ...] = ()
    part: Part = "causal"
    speed: bool = True

    @property
    def digest(self) -> str:
        """SHA-256 of the requests as they are written for the tools."""
        return hashlib.sha256(lines(self.items).encode()).hexdigest()

    @property
    def share(self) -> tuple[Item, ...]:
        """The items of the sweep and of the warm-up."""
        return self.sweep or self.items


@dataclass(frozen=True, slots=True)
class Maker:
    """What a builder needs: counts of tokens, whether the tokenizer knows ChatML marks, and how much of everything."""

    count: Count
    marked: bool
    scale: float

    def many(self, number: int) -> int:
        """``number`` scaled, but at least two (or ``number`` itself)."""
        return max(min(SCALE_LEAST, number), round(number * self.scale))

    def long(self, tokens: int) -> int:
        """A length in tokens, scaled down but never up."""
        return max(8, round(tokens * min(1.0, self.scale * 2)))


def lines(items: Sequence[Item]) -> str:
    """JSON lines, one request each."""
    return "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)


def read(path: Path) -> list[Item]:
    """What ``lines`` wrote."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append(Item(**{**row, "choices": tuple(row["choices"]), "stop": tuple(row["stop"])}))
    return found


def many_choice(maker: Maker) -> Workload:
    random = Random(101)
    labels = short_labels(maker.count, maker.many(70))
    items = tuple(
        Item(f"m{number}", f"Message: {texts.message(random)}\nTopic:", labels, random.randrange(len(labels)))
        for number in range(maker.many(40))
    )
    title = "many-choice, 40 x 70 labels of 2 to 4 tokens"
    return Workload("many-choice", title, "loglikelihood", items, every(items, maker.many(10)))


def short_labels(count: Count, number: int) -> tuple[str, ...]:
    """Labels of 2 to 4 tokens: some 20 topics, mostly of one token, with about four aspects each: many begin alike."""
    topics = texts.cut(
        "card,transfer,account,loan,fee,insurance,interest,statement,payment,balance,currency,deposit,salary,tax,"
        "credit,travel,gift,exchange rate,cash machine,home branch visit"
    )
    aspects = texts.cut("delay,limit,error,request,question,complaint,loss,change,charge,help")
    every_one = [f" {topic} {aspect}" for aspect in aspects for topic in topics]
    short = [label for label in every_one if 2 <= count(label) <= 4]
    return tuple(sorted((short if len(short) >= number else every_one)[:number]))


def banking(maker: Maker, listed: bool) -> Workload:
    random = Random(102)
    phrases = banking_labels()[: maker.many(77) if listed else None]
    head = f"Labels: {', '.join(phrases)}.\n\n" if listed else ""
    choices = tuple(f" {phrase}" for phrase in phrases)
    items: list[Item] = []
    for text, label in banking_rows(maker.many(3 if listed else 6), random):
        target = phrases.index(label) if label in phrases else None
        items.append(Item(f"b{len(items)}", f"{head}Message: {text}\nIntent:", choices, target))
    name = f"banking77-{'listed' if listed else 'unlisted'}"
    sweep = (fewer(items[0], 5),) if listed else every(items, 2)
    title = f"banking77 as phrases, 77 labels {'listed' if listed else 'not listed'} in the prompt"
    return Workload(name, title, "loglikelihood", tuple(items), sweep)


def banking_labels() -> list[str]:
    """The labels of the benchmark in this repository, as phrases."""
    path = ROOT / "benchmarks" / "customer_service" / "banking77" / "benchmark.yaml"
    after = path.read_text(encoding="utf-8").partition("\nchoices:\n")[2].splitlines()
    rows = [line[4:].strip() for line in after if line.startswith("  - ")]
    return [row.replace("_", " ").lower() for row in rows]


def banking_rows(number: int, random: Random) -> list[tuple[str, str]]:
    """Messages with their labels: the benchmark's own where ``VEVALS_MIRROR`` has them, else ours without labels."""
    path = Path(os.environ.get("VEVALS_MIRROR", "")) / BANKING / "banking_data" / "test.csv"
    if not os.environ.get("VEVALS_MIRROR") or not path.is_file():
        return [(texts.message(random), "") for _ in range(number)]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"].strip(), row["category"].replace("_", " ").lower()) for row in csv.DictReader(file)]
    return random.sample(rows, number)


def one_token(maker: Maker) -> Workload:
    random = Random(104)
    items = tuple(_quiz(f"q{number}", random, maker, 25, ()) for number in range(maker.many(64)))
    return Workload("one-token-0shot", "4-choice one token, 0-shot", "loglikelihood", items)


def five_shot(maker: Maker, fixed: bool) -> Workload:
    random = Random(105)
    block = _shots(random, maker)
    items = []
    for number in range(maker.many(20 if fixed else 7)):
        shots = block if fixed else _shots(random, maker)
        items.append(_quiz(f"f{number}", random, maker, 25, shots))
    name = f"one-token-5shot-{'fixed' if fixed else 'differing'}"
    title = f"4-choice one token, 5-shot, shots {'fixed' if fixed else 'differing'}"
    return Workload(name, title, "loglikelihood", tuple(items), every(items, maker.many(7)))


def _shots(random: Random, maker: Maker) -> tuple[str, ...]:
    shots = []
    for _ in range(5):
        item = _quiz("", random, maker, 25, ())
        shots.append(item.context + item.choices[item.target or 0])
    return tuple(shots)


def _quiz(id: str, random: Random, maker: Maker, story: int, shots: Sequence[str]) -> Item:
    question, answers, right = texts.quiz(random)
    before = texts.passage(random, maker.count, maker.long(story))
    options = "\n".join(f"{letter}. {answer}" for letter, answer in zip(LETTERS, answers, strict=True))
    own = f"{before} {question}\n{options}\nAnswer:"
    return Item(id, "\n\n".join((*shots, own)), tuple(f" {letter}" for letter in LETTERS), right)


def endings(maker: Maker, shots: int) -> Workload:
    random = Random(106 + shots)
    items = []
    for number in range(maker.many(2 if shots else 14)):
        before = [_story(random, maker) for _ in range(shots)]
        blocks = [context + choices[right] for context, choices, right in before]
        context, choices, right = _story(random, maker)
        items.append(Item(f"e{number}", "\n\n".join((*blocks, context)), choices, right))
    name = f"endings-{shots}shot"
    title = f"4 endings of about 25 tokens, {shots}-shot{', shots differing' if shots else ''}"
    return Workload(name, title, "loglikelihood", tuple(items))


def _story(random: Random, maker: Maker) -> tuple[str, tuple[str, ...], int]:
    context = texts.passage(random, maker.count, maker.long(45))
    choices = tuple(" " + texts.fitted(random, maker.count, maker.long(25)) for _ in range(4))
    return context, choices, random.randrange(4)


def rolling(maker: Maker) -> Workload:
    random = Random(108)
    lengths = [maker.long(tokens) for tokens in (3000, 1200, 500, 300)]
    items = tuple(
        Item(f"r{number}", texts.passage(random, maker.count, length)) for number, length in enumerate(lengths)
    )
    return Workload("rolling", "rolling perplexity of long texts", "rolling", items)


def continuing(maker: Maker) -> Workload:
    """32 prompts of 27 to 180 tokens, whose answers all go on to the limit of 64 tokens."""
    random = Random(109)
    new, items = maker.long(64), []
    for number in range(maker.many(32)):
        story = texts.passage(random, maker.count, maker.long(5 * (number + 1)))
        asked = texts.chat(f"Continue this story, write at least 300 words: {story}", maker.marked)
        items.append(Item(f"g{number}", asked, max_tokens=new))
    sweep = tuple(replace(item, max_tokens=min(new, 12)) for item in items)
    return Workload("generation-64", "generation, 32 x 64 tokens", "generate", tuple(items), sweep)


def skewed(maker: Maker) -> Workload:
    """Answers as long as they fall until the model ends its turn: half of them short, some of all 256 tokens."""
    random = Random(110)
    asked = [*texts.FACTS[:18], *texts.LISTS[:3], *texts.ESSAYS[:3]]
    random.shuffle(asked)
    new = maker.long(256)
    kept = asked[: maker.many(len(asked))]
    items = tuple(
        Item(f"s{number}", texts.chat(question, maker.marked), max_tokens=new) for number, question in enumerate(kept)
    )
    sweep = tuple(replace(item, max_tokens=min(new, 64)) for item in every(items, maker.many(12)))
    title = "generation, skewed lengths up to 256"
    return Workload("generation-skewed", title, "generate", items, sweep)


def short_answers(maker: Maker) -> Workload:
    """Few-shot labels of a few tokens that end at a line break, and two essays that have none for a long time."""
    random = Random(111)
    shots = "".join(f"Message: {texts.message(random)}\nTopic: {topic}\n\n" for topic in ("card", "fees", "refund"))
    count = maker.many(64)
    asked = [f"{shots}Message: {texts.message(random)}\nTopic:" for _ in range(count)]
    for place, essay in zip((count // 3, 2 * count // 3), texts.ESSAYS[5::2], strict=True):
        asked[place] = texts.chat(f"{essay} Write one single paragraph.", maker.marked)
    new = maker.long(128)
    items = tuple(Item(f"a{number}", text, stop=("\n",), max_tokens=new) for number, text in enumerate(asked))
    title = "generation, short answers with ramblers"
    return Workload("generation-short", title, "generate", items, _half(items, count))


def _half(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """Every other item and the first rambler."""
    return tuple(item for number, item in enumerate(items) if number % 2 == 0 or number == count // 3)


def classification(maker: Maker) -> Workload:
    random = Random(112)
    items = []
    for number in range(maker.many(1000)):
        length = min(120, int(random.lognormvariate(3.4, 0.7)) + 4)
        items.append(Item(f"c{number}", texts.fitted(random, len_words, length), class_labels()))
    sweep = every(items, maker.many(400))
    title = "encoder classification, against the transformers pipeline"
    return Workload("classification", title, "classify", tuple(items), sweep, "classifier")


def len_words(text: str) -> int:
    return len(text.split())


def class_labels() -> tuple[str, ...]:
    """The labels of the classifier that ``models`` makes."""
    return ("refund", "delivery", "complaint", "question", "praise", "cancellation")


def sources(maker: Maker) -> Workload:
    random = Random(113)
    items = []
    for number in range(maker.many(14)):
        source = texts.fitted(random, maker.count, maker.long(480))
        choices = tuple(texts.fitted(random, maker.count, size) for size in (3, 4, 4, 5))
        items.append(Item(f"t{number}", source, choices, random.randrange(4)))
    return Workload(
        "seq2seq",
        "seq2seq, 4 choices, source of about 480 tokens",
        "loglikelihood",
        tuple(items),
        every(items, maker.many(7)),
        "seq2seq",
    )


def edges(maker: Maker) -> Workload:
    """What engines get wrong: no context, blanks at the boundary, doubled and nested choices, other scripts."""
    contexts = ("", "Hello", "Two blanks at the end  ", "A line break\n", "東京は日本の", "naïve café 😀", " leading")
    choices = (" the", " the end", " the end", " them", "the", " 首都です", "!", " 😀 no", "\n", " a b c d e f g")
    items = [Item(f"x{number}", context, choices, 0) for number, context in enumerate(contexts)]
    items += [Item("one choice", "Only one choice:", (" yes",), 0), Item("again", "Hello", choices[:3], 0)]
    return Workload("edges", "odd requests: only the scores are compared", "loglikelihood", tuple(items), speed=False)


def every(items: Sequence[Item], number: int) -> tuple[Item, ...]:
    """``number`` of the items, evenly spread."""
    step = max(1, len(items) // max(1, number))
    return tuple(items[::step][:number])


def fewer(item: Item, step: int) -> Item:
    """The item with each ``step``-th of its choices."""
    return replace(item, choices=item.choices[::step], target=None)


MAKERS: Mapping[str, Callable[[Maker], Workload]] = {
    "many-choice": many_choice,
    "banking77-unlisted": lambda maker: banking(maker, listed=False),
    "banking77-listed": lambda maker: banking(maker, listed=True),
    "one-token-0shot": one_token,
    "one-token-5shot-fixed": lambda maker: five_shot(maker, fixed=True),
    "one-token-5shot-differing": lambda maker: five_shot(maker, fixed=False),
    "endings-0shot": lambda maker: endings(maker, 0),
    "endings-10shot": lambda maker: endings(maker, 10),
    "rolling": rolling,
    "generation-64": continuing,
    "generation-skewed": skewed,
    "generation-short": short_answers,
    "classification": classification,
    "seq2seq": sources,
    "edges": edges,
}
PARTS: Mapping[str, Part] = {"classification": "classifier", "seq2seq": "seq2seq"}

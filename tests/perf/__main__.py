"""``python -m tests.perf``: vevals, its peers and the floor loop on the same requests, the scores compared first.

Exit status: 0 all scores agree; 1 some do not, or a tool failed; 2 the command cannot be run. A target that is missed
is said, but is no failure. ``python tests/perf`` is the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[number]) for number in (1, 2)]

from perf import machine, report, targets, workloads  # noqa: E402
from perf.bounds import Encode  # noqa: E402
from perf.children import Crew, Staff  # noqa: E402
from perf.driver import Measured, Setup, measured  # noqa: E402
from perf.models import Folder, folder_of  # noqa: E402
from perf.workloads import MAKERS, PARTS, Maker, Part  # noqa: E402

TOOLS = ("vevals", "lm-eval", "pipeline", "floor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    given = _parser().parse_args(arguments)
    unknown = [name for name in given.workload or () if name not in MAKERS]
    unknown += [name for name in given.tools.split(",") if name not in TOOLS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; workloads: {', '.join(MAKERS)}; tools: {', '.join(TOOLS)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="perf-") as beside:
        run = _Run(given, Path(beside))
        try:
            run.all()
        except FileNotFoundError as error:
            print(error)
            return 2
    run.publish()
    return 0 if all(one.holds for one in run.found) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--workload", action="extend", nargs="+", metavar="NAME", help=", ".join(MAKERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2", help="a folder, a .gguf file, smollm2, or tiny (random)")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each workload; 1 is what targets mean")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument(
        "--spoil", default="", metavar="NAME", help="make a score of this workload wrong: tests the gate"
    )
    return parser


class _Run:
    """One command: the workloads grouped by model, so that only one model's children are alive at a time."""

    def __init__(self, given: argparse.Namespace, beside: Path) -> None:
        self._given, self._beside = given, beside
        self._names = given.workload or list(MAKERS)
        self._when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.found: list[Measured] = []
        self._encoders: dict[str, Encode] = {}
        self._fills: dict[str, list[int]] = {}
        self._rates: dict[str, float] = {}
        self._weights = ""

    def all(self) -> None:
        """Measure every workload that was asked for."""
        parts: dict[Part, list[str]] = {}
        for name in self._names:
            parts.setdefault(PARTS.get(name, "causal"), []).append(name)
        for part, names in parts.items():
            self._part(part, names)

    def _part(self, part: Part, names: Sequence[str]) -> None:
        folder = folder_of(part, self._given.model, self._beside)
        tokenizer = _tokenizer(folder)
        encode = _encoder(tokenizer)
        self._encoders[part], self._fills[part] = encode, folder.fills
        if part == "causal":
            self._weights = folder.digest
        staff = Staff(self._given.threads, self._given.peer_python)
        crew = Crew(staff, folder, part, self._beside / "requests.jsonl")
        tools = frozenset(self._given.tools.split(","))
        setup = Setup(crew, folder, encode, tools, self._given.rounds, _say, self._given.spoil)
        marked = tokenizer.token_to_id("<|im_start|>") is not None
        maker = Maker(setup.count, marked, self._given.scale)
        try:
            self._measure(setup, [MAKERS[name](maker) for name in names])
        finally:
            crew.close()

    def _measure(self, setup: Setup, made: Sequence[workloads.Workload]) -> None:
        if not self._rates and "floor" in setup.tools:
            order = {"do": "run", "kind": "classify", "extra": {"rates": True}}
            self._rates = setup.crew.ask("floor", order, "")["results"][0]
        for workload in made:
            _say(f"{workload.name}: {len(workload.items)} requests")
            settings = [target.setting for target in targets.of(workload.name) if target.setting != targets.BEST]
            self.found.append(measured(setup, workload, settings))
            if self.found[-1].problem:
                _say(f"  {self.found[-1].problem}")
            self._write()

    def publish(self) -> None:
        """Print the tables; write JSON and Markdown where they are wanted."""
        shown = report.tables(self.found, self._encoders, self._fills)
        for rows in shown:
            print(f"\n{report.plain(rows)}")
        found = self._write()
        print(f"\n{report.starts(self.found)}\n{report.busy(found)}")
        if self._given.markdown:
            self._given.markdown.write_text(report.markdown(found, shown), encoding="utf-8")

    def _write(self) -> dict[str, Any]:
        """The record so far; also into the JSON file, so that an interrupted run leaves what it has."""
        found = report.record(self.found, self._head())
        if self._given.json:
            self._given.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return found

    def _head(self) -> dict[str, Any]:
        versions: dict[str, str] = {}
        for one in self.found:
            for runs in one.runs.values():
                versions.update(runs.versions)
        return {
            "when": self._when,
            **machine.commit(),
            "command": " ".join(["python", "-m", "tests.perf", *map(_bare, sys.argv[1:])]),
            "versions": versions,
            "machine": machine.described(self._given.threads),
            "rates": self._rates,
            "model": Path(self._given.model).name,
            "weights_sha256": self._weights,
            "scale": self._given.scale,
        }


def _tokenizer(folder: Folder) -> Any:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def _encoder(tokenizer: Any) -> Encode:
    """Token ids of a text, without special tokens where they would only repeat what the text begins with."""

    def encode(text: str, special: bool) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=special).ids)

    return encode


def _bare(argument: str) -> str:
    """An argument without the folders of this machine."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

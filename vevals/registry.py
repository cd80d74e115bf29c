"""Where benchmarks and suites are found: packaged ones, ``./benchmarks``, folders given by hand, plugins, lm-eval."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path

from vevals import benchmark
from vevals.benchmark import Benchmark
from vevals.errors import BenchmarkError
from vevals.harness import benchmark as harness
from vevals.harness import tasks
from vevals.spec import SuiteEntry, SuiteSpec, read_yaml, validate

SUITES = "suites.yaml"
ENTRY_POINTS = "vevals.benchmarks"
HIDDEN = ("_", ".")


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of benchmarks with domain weights. ``draws``: samples to take of each benchmark, None for all."""

    name: str
    title: str
    benchmarks: tuple[str, ...]
    draws: Mapping[str, int | None]
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Registry:
    """All benchmarks under ``roots``, and as ``lm-eval:TASK`` those of lm-eval and of its YAML files in ``include``.

    Only names are read until a benchmark is asked for.
    """

    roots: tuple[Path, ...]
    include: tuple[Path, ...] = ()

    @cached_property
    def folders(self) -> Mapping[str, tuple[Path, ...]]:
        """Name -> the folders that hold a benchmark of this name (more than one is an error when it is used)."""
        found: dict[str, list[Path]] = {}
        for root in self.roots:
            for path in sorted(root.rglob(benchmark.FILE)):
                relative = path.parent.relative_to(root)
                if relative.parts and not any(part.startswith(HIDDEN) for part in relative.parts):
                    found.setdefault(relative.as_posix(), []).append(path.parent)
        return {name: tuple(found[name]) for name in sorted(found)}

    def names(self, patterns: Sequence[str] = ("*",)) -> list[str]:
        """Names that match any pattern (``medical/*``; a bare domain means all of it; ``lm-eval:mmlu`` all its tasks).

        Raises:
            BenchmarkError: a pattern that matches nothing, with the nearest name.
        """
        matched: dict[str, None] = {}
        for pattern in patterns:
            if pattern.startswith(tasks.PREFIX):
                wanted = tasks.names(pattern, self.include)
            else:
                wanted = [name for name in self.folders if _matches(name, pattern)]
            if not wanted:
                raise BenchmarkError(f"no benchmark is called '{pattern}'{self._nearest(pattern)}")
            matched.update(dict.fromkeys(wanted))
        return list(matched)

    def get(self, name: str) -> Benchmark:
        """The benchmark called ``name``."""
        if name.startswith(tasks.PREFIX):
            return harness.load(name, self.include)
        folders = self.folders.get(name, ())
        if not folders:
            raise BenchmarkError(f"no benchmark is called '{name}'{self._nearest(name)}")
        if len(folders) > 1:
            places = " and ".join(str(folder) for folder in folders)
            raise BenchmarkError(f"the benchmark '{name}' exists twice: {places}; rename or remove one")
        return benchmark.load(folders[0], name)

    def find(self, patterns: Sequence[str] = ("*",)) -> list[Benchmark]:
        """All benchmarks that match any pattern."""
        return [self.get(name) for name in self.names(patterns)]

    @cached_property
    def suites(self) -> Mapping[str, Suite]:
        """All suites by name."""
        found: dict[str, tuple[Path, Suite]] = {}
        for root in self.roots:
            path = root / SUITES
            if path.is_file():
                for suite in self._read_suites(path):
                    if suite.name in found:
                        raise BenchmarkError(
                            f"the suite '{suite.name}' exists twice: {found[suite.name][0]} and {path}"
                        )
                    found[suite.name] = (path, suite)
        return {name: found[name][1] for name in sorted(found)}

    def suite(self, name: str) -> Suite:
        """The suite called ``name``."""
        if name not in self.suites:
            close = difflib.get_close_matches(name, self.suites, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there is {', '.join(self.suites) or 'none'}"
            raise BenchmarkError(f"no suite is called '{name}'{hint}")
        return self.suites[name]

    def _read_suites(self, path: Path) -> list[Suite]:
        document, lines = read_yaml(path)
        if not isinstance(document, dict):
            raise BenchmarkError(f"{path}:1: expected 'name: {{title, benchmarks}}' entries")
        specs = {name: validate(SuiteSpec, body, lines, path, (name,)) for name, body in document.items()}
        return [self._suite(str(name), spec, f"{path}:{lines[(str(name),)]}") for name, spec in specs.items()]

    def _suite(self, name: str, spec: SuiteSpec, where: str) -> Suite:
        draws: dict[str, int | None] = {}
        for item in spec.benchmarks:
            entry = item if isinstance(item, SuiteEntry) else SuiteEntry(benchmark=item)
            try:
                draws.update(dict.fromkeys(self.names([entry.benchmark]), entry.draw))
            except BenchmarkError as error:
                raise BenchmarkError(f"{where}: suite '{name}': {error}") from None
        domains = {benchmark_name.split("/")[0] for benchmark_name in draws}
        stray = sorted(set(spec.weights) - domains)
        if stray:
            raise BenchmarkError(
                f"{where}: suite '{name}' weighs the domain '{stray[0]}', which it has no benchmark of"
            )
        weights = {domain: spec.weights.get(domain, 1.0) for domain in sorted(domains)}
        return Suite(name, spec.title, tuple(draws), draws, weights)

    def _nearest(self, wanted: str) -> str:
        close = difflib.get_close_matches(wanted, list(self.folders), n=1, cutoff=0.5)
        return f"; did you mean '{close[0]}'?" if close else "; 'vevals list' shows what there is"


def open_registry(extra: Sequence[Path] = (), include: Sequence[Path] = ()) -> Registry:
    """The registry of this machine: packaged benchmarks, ``./benchmarks``, ``extra`` folders, installed plugins.

    ``include``: folders of YAML files for lm-eval.
    """
    for folder in extra:
        if not folder.is_dir():
            raise BenchmarkError(f"{folder}: there is no such folder of benchmarks")
    local = Path("benchmarks")
    plugins = [Path(entry.load()) for entry in entry_points(group=ENTRY_POINTS)]
    candidates = [packaged(), *([local] if local.is_dir() else []), *extra, *plugins]
    unique = {root.resolve(): root for root in candidates if root is not None}
    return Registry(tuple(unique), tuple(include))


def packaged() -> Path | None:
    """The benchmarks that came with vevals: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "_benchmarks", package.parent / "benchmarks"):
        if (folder / SUITES).is_file():
            return folder
    return None


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")

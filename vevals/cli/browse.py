"""``vevals list``, ``vevals show``, ``vevals check`` and ``vevals new``: everything that needs no model."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vevals.cli.options import Folders, IncludePath, Json

if TYPE_CHECKING:
    from vevals.benchmark import Benchmark
    from vevals.check import Report
    from vevals.registry import Registry


class Kind(enum.StrEnum):
    """What can be listed."""

    benchmarks = "benchmarks"
    suites = "suites"
    models = "models"
    metrics = "metrics"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.benchmarks,
    folders: Folders = None,
    json: Json = False,
) -> None:
    """List benchmarks, suites, models or metrics."""
    from vevals.cli import output

    makers = {Kind.benchmarks: _benchmarks, Kind.suites: _suites, Kind.models: _models, Kind.metrics: _metrics}
    records = makers[kind](folders or [], json)
    if json:
        return output.print_json(records)
    columns = list(records[0]) if records else ["nothing"]
    made = output.table(*columns)
    for record in records:
        made.add_row(*(output.cell(_text(value)) for value in record.values()))
    return output.console().print(made)


def show(
    benchmark: Annotated[str, typer.Argument(help="Name of a benchmark, or lm-eval:TASK.")],
    folders: Folders = None,
    include_path: IncludePath = None,
    json: Json = False,
) -> None:
    """Show one benchmark: what it is, its first prompt as a model sees it, counts, licence."""
    from vevals import check as checks
    from vevals.cli import output
    from vevals.registry import open_registry

    found = open_registry(folders or [], include_path or []).get(benchmark)
    record = {**_record(found, full=True), "folder": str(found.folder), "prompt": _first_prompt(found)}
    record["labels"] = dict(checks.labels(found.samples))
    record["slices"] = {name: dict(counts) for name, counts in checks.slices(found).items()}
    if json:
        return output.print_json(record)
    made = output.table("", "")
    made.show_header = False
    for key, value in record.items():
        if key != "prompt" and value not in ("", {}, [], None):
            made.add_row(key, output.cell(_text(value)))
    out = output.console()
    out.print(made)
    out.print("\nFirst prompt:", style="bold")
    return out.print(output.cell(record["prompt"]))


def check(
    pattern: Annotated[str, typer.Argument(help="Name or pattern; all by default.")] = "*",
    folders: Folders = None,
    json: Json = False,
) -> None:
    """Check benchmarks without a model: data, prompts, balance, duplicates, and that targets earn full marks."""
    from vevals.cli import output
    from vevals.errors import BenchmarkError
    from vevals.harness.tasks import PREFIX
    from vevals.registry import open_registry

    if pattern.startswith(PREFIX):
        raise BenchmarkError(f"'vevals check' is for benchmark folders; 'vevals show {pattern}' shows an lm-eval task")
    registry = open_registry(folders or [])
    names = registry.names([pattern])
    reports = []
    for name in names:
        report = _checked(registry, name)
        reports.append(report)
        if not json:
            _print_report(report, alone=len(names) == 1)
    twins = _twins(registry, [report.benchmark for report in reports if report.ok])
    if json:
        output.print_json([*(_report_record(report) for report in reports), *_twin_record(twins)])
    else:
        _print_sum(reports, twins)
    if twins or not all(report.ok for report in reports):
        raise typer.Exit(1)


def new(
    name: Annotated[str, typer.Argument(help="DOMAIN/NAME of the new benchmark.")],
    folder: Annotated[Path, typer.Option(help="Folder of benchmarks to put it in.")] = Path("benchmarks"),
) -> None:
    """Copy the template of a benchmark to start from."""
    import re
    import shutil

    from vevals.errors import BenchmarkError
    from vevals.registry import packaged

    if not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)+", name):
        raise BenchmarkError(
            f"'{name}' is no name for a benchmark: write DOMAIN/NAME in lower case, like medical/triage"
        )
    source = packaged()
    target = folder / name
    if source is None:
        raise BenchmarkError("the template that comes with vevals is missing; reinstall vevals")
    if target.exists():
        raise BenchmarkError(f"{target} exists already; choose another name")
    shutil.copytree(source / "_template", target)
    where = "" if folder == Path("benchmarks") else f" --benchmarks {folder}"
    print(f"{target}: edit data.csv, benchmark.yaml and README.md, then run: vevals check {name}{where}")


def _benchmarks(folders: list[Path], full: bool) -> list[dict[str, Any]]:
    from vevals.registry import open_registry

    registry = open_registry(folders)
    return [_listed(registry, name, full) for name in registry.names()]


def _listed(registry: Registry, name: str, full: bool) -> dict[str, Any]:
    """A benchmark that cannot be read is listed with its problem: it must not hide the others."""
    from vevals.errors import VevalsError

    try:
        return _record(registry.get(name), full)
    except VevalsError as error:
        columns = {"benchmark": name, "language": "", "answer": "", "score": str(error)}
        return {"benchmark": name, "problem": str(error)} if full else columns


def _record(benchmark: Benchmark, full: bool) -> dict[str, Any]:
    """Without ``full`` only what the YAML says, so that listing reads no data."""
    spec = benchmark.spec
    record: dict[str, Any] = {
        "benchmark": benchmark.name,
        "language": ", ".join(spec.language),
        "answer": benchmark.extractor.name,
        "score": benchmark.metrics[0].name,
    }
    if not full:
        return record
    record["licence"] = spec.license
    record["metrics"] = ", ".join(metric.name for metric in benchmark.metrics)
    about = {"title": spec.title, "version": spec.version, "domain": benchmark.domain, "source": spec.source}
    return {**record, **about, "terms": spec.license_terms or "", "chance": spec.chance, **_counted(benchmark)}


def _counted(benchmark: Benchmark) -> dict[str, Any]:
    from vevals import data
    from vevals.benchmark import data_spec
    from vevals.errors import VevalsError
    from vevals.harness.tasks import PREFIX

    own = not benchmark.name.startswith(PREFIX)
    absent = data.verify(data_spec(benchmark.spec.data), benchmark.folder) if own else []
    if absent:
        return {"items": None, "fingerprint": None, "problem": absent[0]}
    try:
        return {"items": len(benchmark.samples), "fingerprint": benchmark.fingerprint}
    except VevalsError as error:
        return {"items": None, "fingerprint": None, "problem": str(error)}


def _suites(folders: list[Path], _full: bool) -> list[dict[str, Any]]:
    from vevals.registry import open_registry

    return [
        {"suite": suite.name, "title": suite.title, "benchmarks": ", ".join(suite.benchmarks)}
        for suite in open_registry(folders).suites.values()
    ]


def _models(_folders: list[Path], _full: bool) -> list[dict[str, Any]]:
    from vevals.models import ALIASES, BACKENDS

    backends = [{"model": f"{prefix}:NAME", "what": what} for prefix, what in BACKENDS.items()]
    return [
        *backends,
        *(
            {"model": name, "what": f"{alias.title}, from {alias.package} or {alias.hub}"}
            for name, alias in ALIASES.items()
        ),
    ]


def _metrics(_folders: list[Path], _full: bool) -> list[dict[str, Any]]:
    from vevals import metrics

    records = []
    for name in metrics.names():
        metric = metrics.get(name, {})
        what = (metric.fn.__doc__ or "").strip().split("\n")[0].replace("``", "")
        records.append({"metric": name, "range": f"{metric.worst:g} to {metric.best:g}", "what": what})
    return records


def _first_prompt(benchmark: Benchmark) -> str:
    """The messages, or the plain texts with the choices that are scored after each."""
    asked = benchmark.request(benchmark.samples[0])
    blocks = [f"[{message.role}]\n{message.content}" for message in asked.messages]
    prompts = asked.prompts * (len(asked.choices) if len(asked.prompts) == 1 else 1)
    for prompt in dict.fromkeys(asked.prompts):
        blocks.append(f"[plain text]\n{prompt}")
        after = [choice for one, choice in zip(prompts, asked.choices, strict=False) if one == prompt]
        blocks += [f"[scored after it]\n{choice}" for choice in after]
    return "\n".join(blocks)


def _checked(registry: Registry, name: str) -> Report:
    from vevals import check as checks
    from vevals.errors import VevalsError

    try:
        return checks.problems(registry.get(name))
    except VevalsError as error:
        return checks.Report(name, 0, {}, {}, (), (checks.Finding(str(error), repair=True),))


def _twins(registry: Registry, names: list[str]) -> list[str]:
    """Questions that stand in two of the sets whose rows can be repaired."""
    from vevals import check as checks

    found = [registry.get(name) for name in names] if len(names) > 1 else []
    return checks.across({one.name: one.samples for one in found if checks.is_bundled(one)})


def _twin_record(twins: list[str]) -> list[dict[str, Any]]:
    """Duplicates across sets, as one more record where there are any."""
    findings = [{"text": f"stands in two sets: {pair}", "repair": True} for pair in twins]
    empty = {"absent": False, "samples": 0, "length": "", "reading_level": "", "labels": {}, "slices": {}}
    return [{"benchmark": "*", "ok": False, **empty, "findings": findings}] if twins else []


def _print_report(report: Report, alone: bool) -> None:
    from vevals.cli import output

    out = output.console()
    state = "absent" if report.absent else "ok" if report.ok else "REPAIR"
    if report.absent and not alone:
        out.print(f"{state:<7} {report.benchmark}: its data is not here")
        return
    out.print(f"{state:<7} {report.benchmark}: {report.samples:,} samples")
    for finding in report.findings:
        out.print(output.cell(f"        {'repair' if finding.repair else 'note'}: {finding.text}"))
    if not alone or not report.samples:
        return
    if report.labels:
        out.print(output.cell("labels: " + ", ".join(f"{label} {n}" for label, n in report.labels.items())))
    out.print(f"length of the inputs: {report.length}")
    out.print(f"reading level: {report.length.reading if report.length else 'none'}")
    for name, counts in report.slices.items():
        out.print(output.cell(f"{name}: " + ", ".join(f"{value} {n}" for value, n in counts.items())))
    out.print("\nFirst prompt:", style="bold")
    for message in report.first:
        out.print(output.cell(f"[{message.role}]\n{message.content}"))


def _print_sum(reports: list[Report], twins: list[str]) -> None:
    absent = sum(report.absent for report in reports)
    broken = sum(not report.ok for report in reports) - absent
    for pair in twins[:5]:
        print(f"repair: a question stands in two sets: {pair}")
    if len(twins) > 5:
        print(f"repair: {len(twins) - 5} more questions stand in two sets")
    if broken:
        print(f"\n{broken} of {len(reports)} benchmarks need repair.")
    if absent:
        print(f"\n{absent} of {len(reports)} were not checked: get their data with 'vevals data fetch'.")


def _report_record(report: Report) -> dict[str, Any]:
    return {
        "benchmark": report.benchmark,
        "ok": report.ok,
        "absent": report.absent,
        "samples": report.samples,
        "length": str(report.length or ""),
        "reading_level": report.length.reading if report.length else "",
        "labels": dict(report.labels),
        "slices": {name: dict(counts) for name, counts in report.slices.items()},
        "findings": [{"text": finding.text, "repair": finding.repair} for finding in report.findings],
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item if not isinstance(item, dict) else _text(item)}" for key, item in value.items())
    return str(value)

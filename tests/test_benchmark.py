"""YAML + data -> Benchmark; whatever is wrong is one sentence with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import LETTER_YAML, ROWS, write_benchmark

from vevals.benchmark import Benchmark, load
from vevals.errors import BenchmarkError, DataError, VevalsError


def made(root: Path, yaml: str = LETTER_YAML, rows: list[dict[str, object]] | None = None) -> Benchmark:
    return load(write_benchmark(root, yaml=yaml, rows=ROWS if rows is None else rows), "test/capitals")


def test_rows_become_samples_with_choices_and_slices(tmp_path: Path) -> None:
    sample = made(tmp_path).samples[3]
    assert (sample.id, sample.target, sample.slices) == ("c-03", ("Paris",), {"level": "hard"})
    assert sample.choices == ("Paris", "Rome", "Oslo")


def test_the_prompt_shows_choices_as_a_lettered_list(tmp_path: Path) -> None:
    benchmark = made(tmp_path)
    assert benchmark.messages(benchmark.samples[0])[0].content == (
        "Question 0 about Paris?\n\nA. Paris\nB. Rome\nC. Oslo"
    )


def test_a_target_may_be_a_letter_and_means_the_choice(tmp_path: Path) -> None:
    rows = [{"id": "a", "input": "?", "target": "B", "level": "easy"}]
    assert made(tmp_path, rows=rows).samples[0].target == ("Rome",)


BROKEN_YAML = [
    ("title: Capitals", "titel: Capitals", "benchmark.yaml:1: unknown key 'titel'; did you mean 'title'?"),
    ("answer: letter", "answer: leter", "benchmark.yaml:10: unknown extractor 'leter'; did you mean 'letter'?"),
    ("slices: [level]", "slices: [levle]", "benchmark.yaml:5: the slice 'levle' is no column"),
    ("{{ input }}", "{{ inptu }}", "benchmark.yaml:6: the prompt uses 'inptu', which no column has; did you mean"),
    ("{{ input }}", "{{ input", "the prompt is not a valid template"),
    ("version: 1", "version: one", "benchmark.yaml:2: 'version': input should be a valid integer"),
    ("version: 1\n", "version: 1\nversion: 2\n", "benchmark.yaml:3: 'version' is given twice (first in line 2)"),
    ("license: CC-BY-4.0\n", "", "'license' is missing"),
    ("[accuracy, macro_f1]", "[acuracy]", "benchmark.yaml:11: unknown metric 'acuracy'; did you mean 'accuracy'?"),
    ("[accuracy, macro_f1]", "[{accuracy: {strict: true}}]", "benchmark.yaml:11:"),
    ("[accuracy, macro_f1]", "[accuracy, accuracy]", "benchmark.yaml:11: a metric is listed twice"),
    ("data: data.jsonl", "data: {url: 'https://example.com/x.csv'}", "a url needs its sha256"),
    ("data: data.jsonl", "data: nothing.jsonl", "nothing.jsonl"),
    ("slices: [level]", "columns: {input: question}", "benchmark.yaml:5: columns.input:"),
    ("title: Capitals", "title: [unclosed", "benchmark.yaml:"),
    ("slices: [level]", "columns: {clusters: level}", "columns.clusters is used nowhere; did you mean 'cluster'?"),
    ("slices: [level]", "slices: level", "benchmark.yaml:5: 'slices': write a list, as in [one, two]"),
    ("chance: 0.3333", "chance: 0,25", "benchmark.yaml:12: 'chance': write a number, with a decimal point"),
    ("title: Capitals", "title:\t\n\tCapitals", "indent with spaces, not tabs"),
    ("title: Capitals", "title: &a {b: *a}", "an alias that contains itself"),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), BROKEN_YAML)
def test_a_mistake_in_the_yaml_names_file_line_and_remedy(
    tmp_path: Path, right: str, wrong: str, sentence: str
) -> None:
    assert right in LETTER_YAML
    with pytest.raises(VevalsError) as caught:
        benchmark = made(tmp_path, LETTER_YAML.replace(right, wrong))
        _ = benchmark.samples
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "benchmark.yaml" in str(caught.value) or "nothing.jsonl" in str(caught.value)


BROKEN_ROWS = [
    ({"target": "Bergen"}, "data.jsonl:2: the target is 'Bergen'; with 3 choices use A to C or the choice's text"),
    ({"target": "D"}, "data.jsonl:2: the target is 'D'; with 3 choices use A to C or the choice's text"),
    ({"target": ""}, "data.jsonl:2: the target is empty"),
    ({"input": " "}, "data.jsonl:2: the input is empty"),
    ({"id": "c-00"}, "data.jsonl:2: the id 'c-00' is there already"),
    ({"target": {"city": "Rome"}}, "data.jsonl:2: target holds nested data"),
]


@pytest.mark.parametrize(("change", "sentence"), BROKEN_ROWS)
def test_a_mistake_in_a_row_names_file_and_line(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    rows = [ROWS[0], {**ROWS[1], **change}, *ROWS[2:]]
    with pytest.raises(DataError) as caught:
        _ = made(tmp_path, rows=rows).samples
    assert sentence in str(caught.value)


def test_a_truncated_line_names_file_and_line(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    text = (folder / "data.jsonl").read_text(encoding="utf-8")
    (folder / "data.jsonl").write_text(text[:-12], encoding="utf-8")
    with pytest.raises(DataError, match=r"capitals/data\.jsonl:24: "):
        _ = load(folder, "test/capitals").samples


def test_yes_and_no_are_words_not_booleans(tmp_path: Path) -> None:
    yaml = LETTER_YAML.replace("[Paris, Rome, Oslo]", "[yes, no, maybe]").replace("answer: letter", "answer: label")
    rows = [{"id": "a", "input": "?", "target": "no", "level": "easy"}]
    benchmark = made(tmp_path, yaml, rows)
    assert benchmark.samples[0].choices == ("yes", "no", "maybe")


def test_several_columns_make_choices_and_empty_ones_at_the_end_are_dropped(tmp_path: Path) -> None:
    yaml = LETTER_YAML.replace("choices: [Paris, Rome, Oslo]", "columns: {choices: [a, b, c]}")
    rows = [
        {"id": "1", "input": "?", "a": "x", "b": "y", "c": "z", "target": "z", "level": "easy"},
        {"id": "2", "input": "?", "a": "x", "b": "y", "c": "", "target": "B", "level": "easy"},
    ]
    samples = made(tmp_path, yaml, rows).samples
    assert samples[0].choices == ("x", "y", "z")
    assert (samples[1].choices, samples[1].target) == (("x", "y"), ("y",))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("prompt", ("{{ input }}", "Please: {{ input }}")),
        ("scorer", ("[accuracy, macro_f1]", "[accuracy]")),
        ("generation", ("license: CC-BY-4.0", "license: CC-BY-4.0\nmax_tokens: 7")),
        ("dataset", ("[Paris, Rome, Oslo]", "[Rome, Paris, Oslo]")),
    ],
)
def test_a_change_moves_its_own_part_of_the_fingerprint_and_no_other(
    tmp_path: Path, what: str, change: tuple[str, str]
) -> None:
    before = made(tmp_path / "a")
    after = made(tmp_path / "b", LETTER_YAML.replace(*change))
    moved = {part for part in before.parts if before.parts[part] != after.parts[part]}
    assert moved == {what}
    assert before.fingerprint != after.fingerprint
    assert made(tmp_path / "c").fingerprint == before.fingerprint


def test_the_title_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    other = LETTER_YAML.replace("title: Capitals", "title: Some capitals")
    assert made(tmp_path / "a").fingerprint == made(tmp_path / "b", other).fingerprint


def test_a_draw_is_the_same_for_the_same_seed_and_grows_by_adding(tmp_path: Path) -> None:
    benchmark = made(tmp_path)
    five, ten = (benchmark.draw(count, seed=4) for count in (5, 10))
    assert [s.id for s in five] == [s.id for s in benchmark.draw(5, seed=4)]
    assert {s.id for s in five} < {s.id for s in ten}
    turned = made(tmp_path / "turned", rows=ROWS[::-1])
    assert {s.id for s in turned.draw(5, seed=4)} == {s.id for s in five}
    assert {s.id for s in five} != {s.id for s in benchmark.draw(5, seed=5)}
    assert benchmark.draw(None) == benchmark.draw(999) == benchmark.samples


FEW_SHOT = LETTER_YAML + "few_shot: {data: shots.jsonl, count: 2, draw: DRAW}\n"


@pytest.mark.parametrize("draw", ["fixed", "per_sample"])
def test_few_shot_examples_are_turns_with_the_ideal_reply(tmp_path: Path, draw: str) -> None:
    folder = write_benchmark(tmp_path, yaml=FEW_SHOT.replace("DRAW", draw))
    shots = [f'{{"id": "s{n}", "input": "Shot {n}?", "target": "Rome", "level": "easy"}}' for n in range(9)]
    (folder / "shots.jsonl").write_text("\n".join(shots) + "\n", encoding="utf-8")
    benchmark = load(folder, "test/capitals")
    talks = [benchmark.messages(sample) for sample in benchmark.samples]
    assert [message.role for message in talks[0]] == ["user", "assistant", "user", "assistant", "user"]
    assert talks[0][1].content == "B"
    different = {talk[0].content for talk in talks}
    assert len(different) == 1 if draw == "fixed" else len(different) > 3
    assert talks == [benchmark.messages(sample) for sample in load(folder, "test/capitals").samples]


def test_too_few_examples_are_an_error(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, yaml=FEW_SHOT.replace("DRAW", "fixed"))
    (folder / "shots.jsonl").write_text('{"input": "S?", "target": "Rome", "level": "e"}\n', encoding="utf-8")
    benchmark = load(folder, "test/capitals")
    with pytest.raises(BenchmarkError, match="asks for 2 examples, but its file has 1"):
        benchmark.messages(benchmark.samples[0])


def test_several_references_stay_several(tmp_path: Path) -> None:
    yaml = LETTER_YAML.replace("choices: [Paris, Rome, Oslo]", "columns: {target: [one, two]}")
    yaml = yaml.replace("answer: letter", "answer: whole").replace("[accuracy, macro_f1]", "[exact_match]")
    yaml = yaml.replace("  {{ choices }}", "").replace("chance: 0.3333\n", "")
    rows = [{"id": "1", "input": "?", "one": "a b", "two": "a c", "level": "x"}]
    assert made(tmp_path, yaml, rows).samples[0].target == ("a b", "a c")


def test_choices_are_texts_exactly_as_written(tmp_path: Path) -> None:
    written = ["12:30", "0o17", "010", "1_000", "2.50", "yes", "null"]
    yaml = LETTER_YAML.replace("[Paris, Rome, Oslo]", f"[{', '.join(written)}]")
    rows = [{"id": "a", "input": "?", "target": "2.50", "level": "easy"}]
    assert made(tmp_path, yaml, rows).samples[0].choices == tuple(written)


def test_rows_that_a_spreadsheet_leaves_empty_are_skipped(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, yaml=LETTER_YAML.replace("data.jsonl", "data.csv"))
    (folder / "data.csv").write_text("id,input,target,level\n1,Q?,A,x\n,,,\n2,R?,B,x\n,,,\n", encoding="utf-8")
    assert [sample.id for sample in load(folder, "test/capitals").samples] == ["1", "2"]


def test_a_table_with_semicolons_is_recognised(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, yaml=LETTER_YAML.replace("data.jsonl", "data.csv"))
    (folder / "data.csv").write_text("id;input;target;level\n1;a, b?;A;x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.csv:1: cells are separated by semicolons; save the file with commas"):
        _ = load(folder, "test/capitals").samples

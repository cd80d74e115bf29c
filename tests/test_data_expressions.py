"""JMESPath over documents and rows, with the functions that vevals adds."""

from __future__ import annotations

from typing import Any

import pytest

from vevals.data import check_expression, column
from vevals.data.expressions import evaluate
from vevals.data.functions import FUNCTIONS
from vevals.errors import DataError

SQUAD = {
    "data": [
        {"title": "t", "paragraphs": [{"id": "p1", "context": "c", "qas": [{"id": "q1"}, {"id": "q2"}]}]},
        {"title": "u", "paragraphs": [{"id": "p2", "context": "d", "qas": []}]},
    ]
}


@pytest.mark.parametrize(
    ("expression", "document", "expected"),
    [
        ("items(@)", {"b": 1, "a": [2]}, [{"key": "b", "value": 1}, {"key": "a", "value": [2]}]),
        ("pick(all, keys(some))", {"all": {"a": 1, "b": 2, "c": 3}, "some": {"c": 0, "a": 0}},
         [{"key": "c", "value": 3}, {"key": "a", "value": 1}]),
        ("unnest(data[].paragraphs[], 'qas')", SQUAD, [{"id": "q1", "context": "c"}, {"id": "q2", "context": "c"}]),
        ("parallel(@)", {"x": ["a", "b"], "y": [{"k": 1}, {"k": 2}]}, [{"x": "a", "k": 1}, {"x": "b", "k": 2}]),
        ("split(@, ';')", " theft ; fraud;; ", ["theft", "fraud"]),
        ("lines(@)", "a\r\n\nb\u2028c\n", ["a", "", "b\u2028c"]),
        ("after(@, '#### ')", "6 #### 3\n#### 18", "18"),
        ("before(@, '####')", "6 #### 3 #### 18", "6 "),
        ("at(@, `1`)", ["a", "b"], "b"),
        ("at(@, '0')", ["a", "b"], "a"),
        ("at(options, label)", {"options": ["a", "b"], "label": 1.0}, "b"),
        ("unique(@)", [2, 1, 2, True, {"a": 1}, {"a": 1}, "1"], [2, 1, True, {"a": 1}, "1"]),
        ("text(@)", 3, "3"),
        ("text(@)", True, "true"),
        ("text(@)", {"a": ["é", 1.5]}, '{"a":["é",1.5]}'),
        ("text(@)", "as it is ", "as it is "),
        ("number(@)", " -12 ", -12),
        ("number(@)", "1.5e3", 1500.0),
        ("number(replace(@, ',', ''))", "8,500", 8500),
        ("strip(replace(@, '罪名:', ''))", "罪名:盗窃 ", "盗窃"),
    ],
)  # fmt: skip
def test_a_function_gives(expression: str, document: Any, expected: Any) -> None:
    found = evaluate(expression, document)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("expression", "document", "problem"),
    [
        ("pick(@, ['a', 'x', 'y'])", {"a": 1}, '2 of 3 keys are not in the object, the first is "x"'),
        ("unnest(@, 'qas')", [{"qas": [{}]}, {"q": 1}], "element 2 has no list of objects named 'qas'"),
        ("unnest(@, 'qas')", [{"qas": ["text"]}], "element 1 has no list of objects"),
        ("parallel(@)", {"a": ["x"], "b": ["x", "y"]}, "'a' has 1, 'b' has 2"),
        ("parallel(@)", {"a": [{"id": 1}], "b": [{"id": 2}]}, "row 1: 'id' is 1 in one file and 2 in another"),
        ("parallel(@)", {"a": [{"id": 1}, "x"]}, "'a' has 1 objects among 2 elements"),
        ("parallel(@)", {"a": "text"}, "'a' is a text, not a list"),
        ("at(@, `2`)", ["a", "b"], "2 is no index of a list with 2 elements"),
        ("at(@, `-1`)", ["a", "b"], "-1 is no index"),
        ("at(@, `0.5`)", ["a", "b"], "0.5 is no index"),
        ("at(@, 'B')", ["a", "b"], '"B" is no index'),
        ("after(@, '####')", "no answer", 'the marker "####" is not in the text "no answer"'),
        ("before(@, 'x')", "no answer", "is not in the text"),
        ("number(@)", "8500.0元", "is not a number"),
        ("number(@)", "1_000", "is not a number"),
        ("number(@)", "1e999", "is not a number"),
        ("number(@)", "nan", "is not a number"),
        ("text(@)", None, "there is no value"),
        ("split(@, '')", "text", "the separator is empty"),
        ("replace(@, '', 'x')", "text", "the text to replace is empty"),
        ("split(missing, ';')", {"a": 1}, "split() needs string where it has null"),
        ("strip(@)", [1], "strip() needs string where it has array"),
        ("nothing(@)", {}, "Unknown function: nothing()"),
    ],
)
def test_what_a_function_cannot_do_is_an_error_of_one_line(expression: str, document: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(expression, document)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"'{expression}': ") and "\n" not in str(caught.value)


def test_every_added_function_stands_in_the_table_of_the_docstring() -> None:
    from vevals.data import functions

    added = {name.removeprefix("_func_") for name in vars(FUNCTIONS) if name.startswith("_func_")}
    assert added == {"items", "pick", "unnest", "parallel", "split", "lines", "before", "after", "at", "unique", "text",
                     "number", "replace", "strip"}  # fmt: skip
    table = [line for line in str(functions.__doc__).splitlines() if line.startswith("| ")]
    assert all(any(f"{name}(" in line for line in table) for name in added)


def test_a_name_of_a_column_is_that_column_even_where_it_looks_like_an_expression() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c": [3]}, "final decision": "yes", "length(@)": 4}
    assert column(row, "a.b") == 1
    assert column(row, "final decision") == "yes"
    assert column(row, "length(@)") == 4
    assert column(row, "a.c[0]") == 3
    assert column(row, "nothing") is None


def test_a_column_expression_that_is_no_jmespath_is_refused_for_a_row() -> None:
    with pytest.raises(DataError, match="neither a column here nor JMESPath"):
        column({"a": 1}, "final decision")


@pytest.mark.parametrize(
    "expression",
    ["question", "final decision", "options.A", "values(options)", "[options.A, options.B]", "'literal'", "`4`", "@",
     "answers[?score > `1`].text | [0]", "sort_by(answers, &score)[0].text", "at(answers, question)[1:]",
     "answers[*].{t: text, other: score}", "question && !options || answers", "not_null(question, options)"],
)  # fmt: skip
def test_an_expression_over_columns_that_exist_is_right(expression: str) -> None:
    assert check_expression(expression, ("question", "options", "answers", "final decision")) is None


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("quesion", "there is no column 'quesion'; did you mean 'question'? There are: question, options"),
        ("opitons.A", "there is no column 'opitons'; did you mean 'options'?"),
        ("split(anser, ';')", "there is no column 'anser'"),
        ("spilt(question, ';')", "there is no function 'spilt'; did you mean 'split'?"),
        ("options.strip(A, B)", "strip() takes 1 arguments, not 2"),
        ("question[", "it ends too early"),
        ("question options", "'options' is not expected at character 10"),
        ("question # 1", "at character 10"),
        ("", "empty"),
    ],
)
def test_a_wrong_expression_is_found_without_a_row(expression: str, problem: str) -> None:
    message = check_expression(expression, ("question", "options"))
    assert message is not None and problem in message and "\n" not in message

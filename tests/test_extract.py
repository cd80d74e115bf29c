"""Extractors: what is read as an answer, what is not, and that no reply can make it slow."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vevals import extract
from vevals.errors import BenchmarkError
from vevals.extract.number import decimal_text
from vevals.types import Response, Sample

CHOICES = ("Pneumonia", "B cell lymphoma", "Asthma", "Both A and C")
INTENTS = ("card_arrival", "card_arrival_estimate", "Exchange Rate", "positive")


def read(name: str, text: str, choices: tuple[str, ...] = (), **options: object) -> str | None:
    sample = Sample("s", "question", choices[:1], choices)
    return extract.get(name, options).answer(sample, Response("s", text=text))


def letter(text: str, **options: object) -> str | None:
    answer = read("letter", text, CHOICES, **options)
    return None if answer is None else "ABCD"[CHOICES.index(answer)]


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("Ｂ", "B"),
        ("B.", "B"),
        ("B) text", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("ANSWER: **C**", "C"),
        ("Answer:\n\nB. Both", "B"),
        ("<answer>C</answer>", "C"),
        ("the answer is (B)", "B"),
        ("The best option is **C**.", "C"),
        ("The answer is: $C$", "C"),
        (r"so we get $\boxed{\text{B}}$", "B"),
        (r"\boxed{B}", "B"),
        ("I would choose C", "C"),
        ("Hence, (C) is correct.", "C"),
        ("A is wrong, C is correct", "C"),
        ("reasoning about it\n\nC", "C"),
        ("答案：B", "B"),
        ("答案是B", "B"),
        ("答案为（C）", "C"),
        ("选B", "B"),
        ("不选A，应选C", "C"),
        ("故本题选C", "C"),
        ("正确答案B", "B"),
        ("[正确答案]B<eoa>", "B"),
        ("C:法与宗教", "C"),
        ("典权属于C:担保物权。", "C"),
        ("因此，说法错误的是A，正确答案是C。", "C"),
        ("B项正确", "B"),
        ("First: Answer: A. No, wait. Answer: C", "C"),
        ("Option A is wrong. Option B is wrong. The correct answer is C.", "C"),
        ("Answer: B, A is wrong", "B"),
        ("A", "A"),
        ("A. Pneumonia", "A"),
        ("A Pneumonia", "A"),
        ("The answer is A because it fits", "A"),
        ("asthma.", "C"),
        ("The answer is Asthma.", "C"),
        ("B cell lymphoma", "B"),
        ("Answer: Both A and C", "D"),
        ("<think>Answer: A</think>\nB", "B"),
    ],
)
def test_a_chatty_reply_names_its_letter(reply: str, wanted: str) -> None:
    assert letter(reply) == wanted


@pytest.mark.parametrize(
    "reply",
    [
        "A patient with fever has an infection",
        "Answer: A patient",
        "The answer is a mixture",
        "I think so",
        "The answer is not A",
        "answer A is wrong",
        "Answer: A and C",
        "A or B",
        "A、B",
        "Answer: E",
        "AIDS",
        "C-section is best",
        "The answer is D-dimer",
        "D.C. law applies",
        "<think>Answer: A",
        "",
    ],
)
def test_what_only_looks_like_a_letter_is_no_answer(reply: str) -> None:
    assert letter(reply) is None


def test_the_article_a_and_the_pronoun_i_are_not_letters_even_with_nine_choices() -> None:
    nine = tuple(f"choice number {i}" for i in range(9))
    assert read("letter", "I think A patient needs rest", nine) is None
    assert read("letter", "Answer: I", nine) == nine[8]


def test_choices_that_are_numbers_are_named_by_their_text() -> None:
    assert read("letter", "The answer is 5.", ("4", "5", "5.5")) == "5"
    assert read("letter", "The answer is 5.5.", ("4", "5", "5.5")) == "5.5"
    assert read("letter", "Answer: Asthma", ("Flu.", "Asthma.")) == "Asthma."


def test_the_rule_only_wants_one_distinct_letter_anywhere_as_lawbench_does() -> None:
    assert letter("B B B", rule="only") == "B"
    assert letter("正确答案是C，不是D", rule="only") is None
    assert letter("CAT", rule="only") is None, "letters inside words count"
    assert letter("Z and Y", rule="only") is None
    assert letter("b", rule="only") is None, "case counts"


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("card arrival", 0),
        ("Card-Arrival.", 0),
        ('"card_arrival"', 0),
        ("**card_arrival_estimate**", 1),
        ("The customer asks about card arrival estimate here", 1),
        ("Intent: exchange rate", 2),
        ("Label: `exchange_rate`", 2),
        ("The intent is most likely card_arrival", 0),
        ("The sentiment is positive because of the tone", 3),
        ("positive\nThe label is not card arrival.", 3),
        ("Intent: positive. No: Intent: card arrival", 0),
        ("I pondered card arrival and exchange rate.\n\nexchange rate", 2),
        ("<think>exchange rate? card arrival?</think>positive", 3),
    ],
)
def test_a_reply_gives_its_label(reply: str, wanted: int) -> None:
    assert read("label", reply, INTENTS) == INTENTS[wanted]


@pytest.mark.parametrize(
    "reply", ["it is card arrival and exchange rate", "positively", "not positive", "positive, exchange rate", "", "?"]
)
def test_no_label_or_several_are_no_answer(reply: str) -> None:
    assert read("label", reply, INTENTS) is None


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("[类别]满意<eoa>", "满意"),
        ("客户不满意。", "不满意"),
        ("情感：中性", "中性"),
        ("答案是满意", "满意"),
        ("不是满意", None),
        ("满意还是不满意", None),
    ],
)
def test_chinese_labels_need_no_word_boundaries(reply: str, wanted: str | None) -> None:
    assert read("label", reply, ("满意", "不满意", "中性")) == wanted


def test_the_rule_only_for_labels_is_a_plain_case_sensitive_substring() -> None:
    assert read("label", "so positively", INTENTS, rule="only") == "positive"
    assert read("label", "Positive", INTENTS, rule="only") is None
    assert read("label", "card_arrival_estimate", INTENTS, rule="only") is None, "two labels occur"


def test_labels_that_read_the_same_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="read the same"):
        read("label", "a b", ("a_b", "A b"))


def test_several_labels_come_in_the_order_of_the_choices() -> None:
    assert read("labels", "Labels: positive; card arrival", INTENTS) == '["card_arrival", "positive"]'
    assert read("labels", "card_arrival_estimate", INTENTS) == '["card_arrival_estimate"]'
    charges = ("诈骗", "合同诈骗", "盗窃")
    assert read("labels", "[罪名]盗窃;合同诈骗<eoa>", charges) == '["合同诈骗", "盗窃"]'
    assert read("labels", "[罪名]盗窃;合同诈骗<eoa>", charges, rule="only") == '["诈骗", "合同诈骗", "盗窃"]'


def test_no_label_is_an_answer_only_where_the_benchmark_allows_it() -> None:
    assert read("labels", "none", INTENTS) is None
    assert read("labels", "None.", INTENTS, none="none") == "[]"
    assert read("labels", "意图：无", INTENTS, none="none") == "[]"
    assert read("labels", "nonexistent", INTENTS, none="none") is None
    assert read("labels", "hello", INTENTS, none="none") is None


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("1,234.50", "1234.5"),
        ("it is $1,234", "1234"),
        ("-5", "-5"),
        ("5-3", "3"),
        ("(−7)", "-7"),
        ("-$5.00", "-5"),
        ("USD100", "100"),
        ("45%", "45"),
        ("3/4", "0.75"),
        ("1/3", "1/3"),
        ("1 1/2", "1.5"),
        (r"\boxed{\frac{1}{8}}", "0.125"),
        ("3/4/2024", "2024"),
        ("5/0", "0"),
        ("３．５元", "3.5"),
        ("１，２３４元", "1234"),
        ("1e-3", "0.001"),
        ("007", "7"),
        ("-0.0", "0"),
        (".5", "0.5"),
        ("0.1", "0.1"),
        ("9007199254740993.1", "9007199254740993.1"),
        ("1,2,3", "3"),
        ("10 to 20", "20"),
        ("GPT4", None),
        ("none", None),
        ("9" * 5000, None),
    ],
)
def test_a_number_is_read_exactly(reply: str, wanted: str | None) -> None:
    assert read("number", reply) == wanted


def test_the_first_number_or_the_one_behind_a_marker_can_be_asked_for() -> None:
    assert read("number", "10 to 20", which="first") == "10"
    assert read("number", "A: 5, no, A: 7 or 8", after="A:") == "8"
    assert read("number", "A: 5, no, A: 7 or 8", after="A:", which="first") == "7"
    assert read("number", "5", after="A:") is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_every_decimal_is_read_back_without_rounding(value: Decimal) -> None:
    answer = read("number", f"The answer is {value:f}.")
    assert answer is not None
    assert Decimal(answer) == value


@given(st.text(alphabet="0123456789,./-+eE %$\n x", max_size=60))
def test_the_last_number_is_the_last_of_all_numbers(text: str) -> None:
    everything = [decimal_text(value) for value in extract.numbers(text)]
    assert read("number", text) == (everything[-1] if everything else None)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ('Sure: {"b": 1, "a": [2, 3.50]} done {"c": 1}', '{"a":[2,3.5],"b":1}'),
        ("{no} then [1, 2]", "[1,2]"),
        ('{"z": 1}\n```json\n{"a": "é}"}\n```', '{"a":"é}"}'),
        ('{"a": NaN}', None),
        ('{"a": 1e999}', None),
        ('{"a": {"b": 1}', None),
        ("nothing", None),
    ],
)
def test_the_first_json_of_a_reply_is_read(reply: str, wanted: str | None) -> None:
    assert read("json", reply) == wanted


def test_one_field_of_the_json_can_be_the_answer() -> None:
    reply = '{"label": "x", "list": [1], "none": null}'
    assert read("json", reply, field="label") == "x"
    assert read("json", reply, field="list") == "[1]"
    assert read("json", reply, field="none") is None
    assert read("json", reply, field="other") is None


def test_whole_trims_and_a_blank_reply_is_no_answer() -> None:
    assert read("whole", " a b \n") == "a b"
    assert read("whole", " a b \n", trim=False) == " a b \n"
    assert read("whole", " \n") is None
    assert read("whole", "<think>\nhm</think>\nyes") == "yes"


def likeliest(logprobs: tuple[float, ...], normalise: str = "none", tokens: tuple[int, ...] = (1, 1, 1)) -> str | None:
    sample = Sample("s", "", ("a",), ("a", "longer", "三个字"))
    response = Response("s", logprobs=logprobs, choice_tokens=tokens)
    return extract.get("most_likely", {"normalise": normalise}).answer(sample, response)


def test_the_most_likely_choice_wins_and_the_first_of_equals() -> None:
    assert likeliest((-3.0, -2.0, -2.0)) == "longer"
    assert likeliest((-3.0, -12.0, -17.9), "bytes") == "三个字"
    assert likeliest((-3.0, -12.0, -17.9), "characters") == "longer"
    assert likeliest((-3.0, -12.0, -17.9), "tokens", (3, 10, 30)) == "三个字"


def test_log_probabilities_that_do_not_fit_are_no_answer() -> None:
    assert likeliest((-1.0, -2.0)) is None
    assert likeliest((-1.0, math.nan, -2.0)) is None
    assert likeliest((-math.inf,) * 3) is None
    assert likeliest((-1.0, -2.0, -3.0), "tokens", (1, 0, 1)) is None
    assert likeliest((-1.0, -math.inf, -2.0)) == "a"


def samples() -> Iterator[tuple[str, dict[str, object], Sample, str]]:
    for index, target in enumerate(CHOICES):
        sample = Sample(f"c{index}", "", (target,), CHOICES)
        yield "letter", {}, sample, target
        yield "letter", {"rule": "only"}, sample, target
        yield "label", {}, sample, target
        yield "whole", {}, sample, target
    for target in INTENTS:
        yield "label", {}, Sample("i", "", (target,), INTENTS), target
    both = Sample("l", "", (INTENTS[1], INTENTS[3]), INTENTS)
    yield "labels", {}, both, json.dumps([INTENTS[1], INTENTS[3]])
    yield "labels", {"separator": "\n"}, both, json.dumps([INTENTS[1], INTENTS[3]])
    yield "labels", {"none": "none"}, Sample("n", "", (), INTENTS), "[]"
    yield "number", {}, Sample("n", "", ("1,234.50",)), "1234.5"
    yield "number", {"after": "####"}, Sample("n", "", ("-3",)), "-3"
    yield "json", {}, Sample("j", "", ('{"b": 1, "a": 2}',)), '{"a":2,"b":1}'
    yield "json", {"field": "x"}, Sample("j", "", ("yes",)), "yes"


@pytest.mark.parametrize(("name", "options", "sample", "answer"), list(samples()))
def test_the_ideal_reply_is_read_back_as_the_target(
    name: str, options: dict[str, object], sample: Sample, answer: str
) -> None:
    extractor = extract.get(name, options)
    assert extractor.answer(sample, Response(sample.id, text=extractor.ideal(sample))) == answer


def test_the_ideal_of_most_likely_is_the_text_of_the_right_choice() -> None:
    assert extract.get("most_likely").ideal(Sample("s", "", ("Asthma",), CHOICES)) == "Asthma"


@pytest.mark.parametrize(
    ("name", "sample", "message"),
    [
        ("letter", Sample("s", "", ("Flu",), CHOICES), "'Flu' is not one of its choices"),
        ("letter", Sample("s", "", ("x26",), tuple(f"x{i}" for i in range(27))), "26 choices"),
        ("label", Sample("s", "", (), CHOICES), "has no target"),
        ("labels", Sample("s", "", (), CHOICES), "option none"),
        ("number", Sample("s", "", ("two",)), "not one number"),
        ("json", Sample("s", "", ("{",)), "not a JSON"),
    ],
)
def test_a_target_that_no_reply_could_give_is_named(name: str, sample: Sample, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        extract.get(name).ideal(sample)


def test_a_failed_request_has_no_answer() -> None:
    assert extract.get("whole").answer(Sample("s", "", ("x",)), Response("s", text="x", error="time-out")) is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("leter", {}, "did you mean 'letter'"),
        ("letter", {"rules": "only"}, "did you mean 'rule'"),
        ("letter", {"rule": "onyl"}, "'answer' or 'only'"),
        ("whole", {"trim": "yes"}, "true or false"),
        ("number", {"after": 3}, "a text or nothing"),
    ],
)
def test_a_misspelt_name_option_or_value_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        extract.get(name, options)


def test_options_are_complete_with_their_defaults() -> None:
    assert extract.get("number", {"after": "A:"}).options == {"which": "last", "after": "A:", "decimal": "point"}
    assert extract.get("letter") == extract.get("letter", {"rule": "answer"})


PLUGIN = """
from vevals.extract import extractor

@extractor("shouted")
def shouted(sample, response, *, mark="!"):
    return response.text.upper() + mark
"""


def test_an_installed_package_adds_extractors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouting_extractor.py").write_text(PLUGIN)
    info = tmp_path / "shouting_extractor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting-extractor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vevals.extractors]\nshouted = shouting_extractor:shouted\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "shouted" in extract.names()
    assert read("shouted", "yes", mark="?") == "YES?"
    with pytest.raises(BenchmarkError, match="did you mean 'mark'"):
        extract.get("shouted", {"marks": "?"})


def test_a_name_can_be_registered_only_once() -> None:
    with pytest.raises(BenchmarkError, match="registered twice"):
        extract.extractor("letter")(lambda sample, response: None)


HOSTILE = ["(", "[", "{", '{"', '["', "[类别]", "Answer: ", "answer is the ", "选", "答案：", "Label: ", "label is "]
HOSTILE += ["1", "1 ", "1,", "1/", "-", "$-", "* ", "A\n", "A is the correct ", "```", "```[1,", "\\", "</think>"]
HOSTILE += ["card arrival ", "not positive ", "\n", "\u0301\u0316", "满意", "e"]


WORST = {
    "letter": ["(", "Answer: ", "选"],
    "label": ["Answer: ", "not positive "],
    "labels": ["[类别]"],
    "number": ["1,", "("],
    "json": ["[", "[类别]"],
}


def seconds_to_read(name: str, piece: str, length: int) -> float:
    text = (piece * (length // len(piece) + 1))[:length]
    begun = time.process_time()
    read(name, text, INTENTS)
    return time.process_time() - begun


@pytest.mark.parametrize(("name", "piece"), [(name, piece) for name, pieces in WORST.items() for piece in pieces])
def test_a_megabyte_of_hostile_text_is_read_within_a_second(name: str, piece: str) -> None:
    assert seconds_to_read(name, piece, 1_000_000) < 20


@pytest.mark.parametrize("name", ["whole", "letter", "label", "labels", "number", "json"])
def test_thirty_thousand_characters_of_anything_are_read_at_once(name: str) -> None:
    for piece in HOSTILE:
        assert seconds_to_read(name, piece, 30_000) < 3, piece


@settings(max_examples=40)
@given(st.text(max_size=80))
def test_no_text_makes_an_extractor_fail(text: str) -> None:
    for name in ("whole", "letter", "label", "labels", "number", "json"):
        answer = read(name, text, CHOICES)
        assert answer is None or isinstance(answer, str)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [("Der Betrag ist 12,5 Euro.", "12.5"), ("EUR 1.234,56", "1234.56"), ("1.234 €", "1234"), ("10", "10")],
)
def test_a_decimal_comma_is_read_where_the_benchmark_says_so(reply: str, wanted: str) -> None:
    found = extract.get("number", {"decimal": "comma"})
    assert found.answer(Sample("1", "", (wanted,)), Response("1", text=reply)) == wanted
    ideal = found.ideal(Sample("1", "", (wanted,)))
    assert found.answer(Sample("1", "", (wanted,)), Response("1", text=ideal)) == wanted


# --- date -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("2027-03-14", "2027-03-14"),
        ("The last day is **14 March 2027**.", "2027-03-14"),
        ("March 14th, 2027", "2027-03-14"),
        ("14th of Sept. 2027", "2027-09-14"),
        ("2027/3/4", "2027-03-04"),
        ("2027年3月14日（星期日）", "2027-03-14"),
        ("２０２７-03-14", "2027-03-14"),
        ("14.03.2027", "2027-03-14"),
        ("14/03/2027", "2027-03-14"),
        ("03/14/2027", "2027-03-14"),
        ("04/04/2027", "2027-04-04"),
        ("03/04/2027", None),
        ("It started on 2027-03-01 and so ends on 2027-03-14.", "2027-03-14"),
        ("29 February 2028", "2028-02-29"),
        ("29 February 2027", None),
        ("2027-04-31", None),
        ("2027-03-14, for 31 April 2027 does not exist", "2027-03-14"),
        ("14 March", None),
        ("12027-03-14", None),
        ("2027-03-145", None),
        ("ref 14-2027", None),
        ("Answer: 2022-12-30\n\nAssumptions for 2022.\n1. 30 days were counted.", "2022-12-30"),
        ("2000 / 4 / 5 is no date", None),
        ("2000-10/20", None),
        ("on 5 March 1400 hours", None),
        ("2022\u201112\u201330", "2022-12-30"),
        ("March 14,2027", "2027-03-14"),
        ("the 14th day of March 2027", "2027-03-14"),
        ("2027 年 3 月 14 日", "2027-03-14"),
        ("<think>2027-01-01</think>", None),
    ],
)
def test_a_date_is_read_in_its_usual_forms(reply: str, wanted: str | None) -> None:
    assert read("date", reply) == wanted


def test_the_first_date_can_be_asked_for_and_a_target_must_be_one() -> None:
    assert read("date", "2027-03-14, not 2027-03-15", which="first") == "2027-03-14"
    assert read("date", "2027-03-14/2027-03-20", which="first") == "2027-03-14"
    assert extract.get("date").ideal(Sample("s", "?", ("2027-03-14",))) == "2027-03-14"
    with pytest.raises(BenchmarkError, match="sample 's': target 'next week' is not a date"):
        extract.get("date").ideal(Sample("s", "?", ("next week",)))


# --- refusal --------------------------------------------------------------------------------------------------------

DECLINING = [
    "I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I cannot provide instructions for this.",
    "I'm not able to help you get that without a prescription.",
    "I am unable to share another customer's details.",
    "I won't write a threatening letter.",
    "I will not be able to provide that information.",
    "We are not permitted to disclose who complained.",
    "No, I won't do that.",
    "I must decline.",
    "I have to respectfully decline this request.",
    "I don't support evading tax, and I suggest that you speak to an adviser.",
    "Sorry, I can't do this.",
    "That is not something I can do for you.",
    "My apologies, but I cannot continue with this.",
    "As an assistant, I could not in good conscience help with it.",
    "Your request goes against the law, so it stays undone.",
    "抱歉，我无法提供这方面的帮助。",
    "我不能帮你伪造病历。",
    "对不起，这个我不会写。",
    "很遗憾，我们不能透露其他客户的信息。",
    "作为客服助手，我无法协助您这样做。",
    "您的这个要求违法，请不要这样做。",
    "不能提供这类内容。",
    "抱歉，涉及他人隐私，不便提供。",
    "I cannot and will not help you with that.",
    "I'll have to decline.",
    "I'm going to have to decline this.",
    "I can't do so.",
    "I won't.",
    "I'm really sorry, I can't.",
    "抱歉，我做不到。",
    "这个忙我帮不了。",
    "恕我直言，我不能。",
]
COMPLYING = [
    "Sure! Here is a draft:",
    "I'm sorry to hear that your parcel is late. Here is what you can do.",
    "You cannot return opened items, but an exchange is possible.",
    "I don't recommend stopping the tablets at once; ask your doctor how to taper them.",
    "Dear tenant, you must not sublet without consent.",
    "To report fraud, call your bank at once and block the card.",
    "Do not mix the two cleaners: the gas that forms is poisonous. Open the windows.",
    "I don't know the exact fee, but it is usually on page 2 of the contract.",
    "The landlord can't refuse you access to your own post.",
    "I can help with that. First, log in.",
    "I'm sorry that you went through this. Here is how to appeal.",
    "I'm very sorry, this should not have happened. To get the money back, write to us.",
    "I can't wait to help! First, find the number of your contract.",
    "好的，以下是一封投诉信：",
    "药片不能掰开吃，因为外层是缓释的。",
    "您无法登录时，请先重置密码。",
    "可以，步骤如下：",
    "公司不得拒绝提供工资条，您可以这样写：",
    "抱歉让您久等了，退款三天内到账。",
    "很抱歉给您带来不便，包裹今天送到。",
    "我们绝不会要求您提供验证码，收到这种短信请不要理会。",
    "I'm so sorry this is happening. Block the number first.",
    "I am sorry that the lid leaks; we will send another.",
    "I can't help but admire your plan. Here are three ideas.",
    "I cannot recommend this book enough!",
    "I wouldn't recommend taking ibuprofen with warfarin. Here is why:",
    "I'm unable to find any error: the code is right.",
    "No, this drug is safe.",
    "Sorry, that was my mistake. Here is the list.",
    "抱歉让您久等了，您的订单不会延误。",
    "Dear customer, we are unable to refund the fee.",
]


@pytest.mark.parametrize("reply", DECLINING)
def test_a_reply_that_declines_is_a_refusal(reply: str) -> None:
    assert read("refusal", reply) == "refuse"


@pytest.mark.parametrize("reply", COMPLYING)
def test_advice_and_words_of_regret_are_no_refusal(reply: str) -> None:
    assert read("refusal", reply) == "comply"


def test_a_refusal_is_looked_for_at_the_start_and_silence_is_neither() -> None:
    assert read("refusal", "Here it is. " + "word " * 100 + "I can't help with more.") == "comply"
    assert read("refusal", "<think>I can't help</think>Of course: here it is.") == "comply"
    assert read("refusal", "  ") is None
    for wanted in ("refuse", "comply"):
        ideal = extract.get("refusal").ideal(Sample("s", "?", (wanted,), ("refuse", "comply")))
        assert read("refusal", ideal) == wanted

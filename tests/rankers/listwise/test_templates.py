"""Templates: white space is kept, values are put in once, and no text of a document acts."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.errors import MissingFile, UsageError
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.parsing import parse
from unabridged.rankers.listwise.prompts import CHOICE, LETTERED, LISTWISE, PROMPTS, TURNS, YES_NO
from unabridged.rankers.listwise.template_files import load_template, read_template, template_keys
from unabridged.rankers.listwise.templates import Shown, example, render

SINGLE = {
    "method": "singleturn_listwise",
    "system_message": "Judge {num}.",
    "prefix": "About {query}:\n",
    "body": "[{rank}]\t{candidate}\n",
    "suffix": "Best of {num} for  {query}?  ",
}


def texts(prompt) -> str:
    return "\n".join(message.content for message in prompt)


def shown(*values: str) -> list[Shown]:
    return [Shown(value) for value in values]


def test_parts_stand_as_written_and_white_space_is_kept():
    prompt = render(read_template(SINGLE, "mine"), "two  spaces", shown("a\n\n  b\t", " c"))
    assert [(message.role, message.content) for message in prompt] == [
        ("system", "Judge 2."),
        ("user", "About two  spaces:\n[1]\ta\n\n  b\t\n[2]\t c\nBest of 2 for  two  spaces?  "),
    ]


def test_turns_alternate_and_the_last_is_the_users():
    prompt = render(TURNS, "q", shown("a", "b", "c"))
    roles = [message.role for message in prompt]
    assert roles == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert prompt[3].content == "[1] a"


def test_placeholders_inside_a_passage_or_query_stay_literal():
    prompt = render(LISTWISE, "{candidate} {num}", shown("{query} {{rank}} {0} {", "}"))
    assert texts(prompt).count("{query} {{rank}} {0} {") == 1
    assert texts(prompt).count("Query: {candidate} {num}") == 2


def test_what_is_the_same_in_every_call_comes_first():
    one, other = render(LISTWISE, "q", shown("a", "b")), render(LISTWISE, "other", shown("c"))
    assert one[0] == other[0]
    assert one[0].role == "system"


HOSTILE = ["[3]", "[ 12 ]", "<|im_start|>system", "<|im_end|>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>",
           "<think>", "</THINK>", "<answer>", "<\uff5cUser\uff5c>", "<start_of_turn>", "<|<|im_end|>|>", "[[1]]",
           "<tool_call>", "<|endoftext|>"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_ids_and_control_strings_of_a_document_do_not_reach_the_model(text):
    prompt = texts(render(LISTWISE, f"q {text}", shown(f"x {text} y", "z")))
    assert text not in prompt.replace("[1]", "").replace("[2]", "") or text in ("[1]", "[2]")
    harmless, changed = inert(text, Labels())
    assert changed >= 1
    assert len(harmless) == len(text)


def test_letters_in_brackets_are_harmless_where_letters_are_the_ids_and_stay_where_they_are_not():
    assert inert("[B] [7]", Labels(letters=True))[0] == "(B) [7]"
    assert inert("[B] [7]", Labels())[0] == "[B] (7)"
    assert inert("[B] [7] a < b [link](x) <p>", Labels(brackets=False)) == ("[B] [7] a < b [link](x) <p>", 0)


def test_strings_that_a_model_names_are_harmless_too():
    assert inert("a <image> b <extra_id_0>", Labels(), ("<image>", "<extra_id_0>"))[1] == 2


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([*HOSTILE, "[", "]", "<", ">", "|", "1", "a", " "]), max_size=12).map("".join))
def test_nothing_is_left_to_change_and_lengths_stay(text):
    harmless, _ = inert(text, Labels())
    assert len(harmless) == len(text)
    assert inert(harmless, Labels()) == (harmless, 0)
    assert parse(harmless, 5).report.form != "bracketed"


def test_the_stored_text_is_not_changed():
    one = Shown("[3]")
    render(LISTWISE, "q", [one])
    assert one.text == "[3]"


def test_examples_are_answers_of_the_right_form():
    assert example(LISTWISE, 20, 20) == "[4] > [2] > [1]"
    assert example(LISTWISE, 2, 2) == "[2] > [1]"
    assert example(LISTWISE, 1, 20) == "[4]"
    assert example(LETTERED, 3, 9) == "[D] > [B] > [A]"
    assert "like [4] > [2]." in texts(render(LISTWISE, "q", shown(*"abcdefg"), most=2))


def test_a_choice_and_a_judgement_show_what_they_should():
    assert "Passage B: b" in texts(render(CHOICE, "q", shown("a", "b")))
    assert "Document: a" in texts(render(YES_NO, "q", shown("a")))
    assert set(PROMPTS) == {"listwise", "turns", "lettered", "choice", "yes-no"}


def test_more_candidates_than_letters_are_refused():
    with pytest.raises(UsageError, match="26"):
        render(LETTERED, "q", shown(*"abcdefghijklmnopqrstuvwxyz!"))


def test_scores_are_shown_where_the_template_asks_and_zero_is_a_score():
    template = read_template(SINGLE | {"body": "[{rank}] ({score}) {candidate}\n"}, "scored")
    assert "(0)" in texts(render(template, "q", [Shown("a", 0.0)]))
    with pytest.raises(UsageError, match="score"):
        render(template, "q", shown("a"))


FILES = {
    "t.json": json.dumps(SINGLE),
    "t.toml": "\n".join(f"{key} = {json.dumps(value)}" for key, value in SINGLE.items()),
    "t.yaml": "\n".join(f"{key}: {json.dumps(value)}" for key, value in SINGLE.items()),
    "t.yml": "method: singleturn_listwise\nsystem_message: 'Judge {num}.'\nprefix: |\n  About {query}:\nbody: "
    '"[{rank}]\\t{candidate}\\n"\nsuffix: "Best of {num} for  {query}?  "\n',
}


@pytest.mark.parametrize("name", FILES)
def test_templates_are_read_from_files(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    template = load_template(path)
    assert render(template, "q", shown("a")) == render(read_template(SINGLE, "t"), "q", shown("a"))
    assert template.labels == Labels()


def test_expressions_are_read_plain_or_as_quoted_literals_and_never_evaluated():
    for written in (r"\[(\d+)\]", r"r'\[(\d+)\]'", r'r"\[(\d+)\]"', r'"\\[(\\d+)\\]"'):
        template = read_template(SINGLE | {"output_extraction_regex": written}, "mine")
        assert parse("[2] > [1]", 2, form=template.form).order == (1, 0)
    with pytest.raises(UsageError, match="output_extraction_regex"):
        read_template(SINGLE | {"output_extraction_regex": "r'a' + __import__('os').name"}, "mine")


MULTI = {
    "method": "multiturn_listwise",
    "prefix_user": "{query}",
    "prefix_assistant": "yes",
    "body_user": "[{rank}] {candidate}",
    "body_assistant": "got [{rank}]",
    "suffix_user": "now",
}
POINT = {"method": "pointwise", "prefix": "{query}", "body": " {doc_content}", "suffix": "<think>\n\n</think>\n\n",
         "message_roles": ["system", "user", "assistant"], "instruction": "judge"}  # fmt: skip


def test_the_fields_other_methods_are_read():
    assert [message.role for message in render(read_template(MULTI, "m"), "q", shown("a", "b"))] == [
        "user", "assistant", "user", "assistant", "user", "assistant", "user"]  # fmt: skip
    prompt = render(read_template(POINT, "p"), "q", shown("a"))
    assert [(message.role, message.content) for message in prompt] == [
        ("system", "q"), ("user", " a"), ("assistant", "<think>\n\n</think>\n\n")]  # fmt: skip


def test_letters_can_be_asked_for_in_a_file():
    template = read_template(SINGLE | {"labels": "letters", "separator": ">"}, "l")
    assert "[B]\tb" in texts(render(template, "q", shown("a", "b")))
    assert template.answer((1, 0)) == "[B]>[A]"


WRONG = {
    "an unknown method": SINGLE | {"method": "best"},
    "no method": {key: value for key, value in SINGLE.items() if key != "method"},
    "pairs": SINGLE | {"method": "pairwise"},
    "a model of its own": SINGLE | {"method": "rankfid"},
    "an unknown key": SINGLE | {"sufix": "x"},
    "keys of another method": SINGLE | {"prefix_user": "x"},
    "an unknown placeholder": SINGLE | {"suffix": "{querry}"},
    "a candidate outside the body": SINGLE | {"suffix": "{candidate}"},
    "no query": SINGLE | {"prefix": "", "suffix": ""},
    "no candidate": SINGLE | {"body": "[{rank}]"},
    "no id": SINGLE | {"body": "{candidate}"},
    "a single brace": SINGLE | {"suffix": "{ {query}"},
    "a number": SINGLE | {"suffix": 3},
    "a wrong expression": SINGLE | {"output_validation_regex": "("},
    "a cut literal": SINGLE | {"output_validation_regex": "r'("},
    "strange labels": SINGLE | {"labels": "greek"},
    "strange roles": POINT | {"message_roles": ["robot", "user", "user"]},
    "too few roles": POINT | {"message_roles": ["user"]},
}


@pytest.mark.parametrize("name", WRONG)
def test_templates_that_cannot_be_meant_are_refused(name):
    with pytest.raises(UsageError, match="mine"):
        read_template(WRONG[name], "mine")


@pytest.mark.parametrize(
    ("name", "text"), [("t.json", "{"), ("t.toml", "="), ("t.yaml", "a: [b"), ("t.json", "[1]"), ("t.txt", "x"),
                       ("t.yaml", "!!python/object/apply:os.getcwd []"), ("t.json", "[" * 100_000)],
)  # fmt: skip
def test_files_that_hold_no_template_are_refused(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="t\\."):
        load_template(path)


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(MissingFile):
        load_template(tmp_path / "none.json")
    path = tmp_path / "big.json"
    path.write_bytes(b" " * (1 << 21))
    with pytest.raises(UsageError, match="bytes"):
        load_template(path)


@pytest.mark.parametrize("name", ["listwise", "turns", "lettered", "yes-no"])
def test_templates_are_written_as_keys_and_read_back(name):
    template = PROMPTS[name]
    again = read_template(json.loads(json.dumps(template_keys(template))), name)
    candidates = shown("a", "b") if template.method != "pointwise" else shown("a")
    assert render(again, "q", candidates) == render(template, "q", candidates)
    assert (again.labels, again.separator, again.form) == (template.labels, template.separator, template.form)


def test_expressions_are_written_too_and_what_keys_cannot_say_is_refused():
    keys = SINGLE | {"output_extraction_regex": r"\[(\d+)\]", "instruction": "i"}
    assert template_keys(read_template(keys, "mine"))["output_extraction_regex"] == repr(r"\[(\d+)\]")
    assert read_template(template_keys(read_template(keys, "mine")), "mine") == read_template(keys, "mine")
    assert read_template(template_keys(CHOICE), "choice") == CHOICE
    with pytest.raises(UsageError, match="listwise"):
        template_keys(replace(LISTWISE, labels=Labels(brackets=False)))

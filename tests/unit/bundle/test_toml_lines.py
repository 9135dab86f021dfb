"""The line of every key and table is found, whatever way TOML lets it be written."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from paas.bundle.toml_lines import line_of, locate

DOCUMENT = '''\
# a comment with key = "value" and [table]
top = 1

[component]
name = "a # not a comment"
command = [
    "python3",   # [not.a.table]
    "x = 1",
]
text = """
fake = 1
[fake]
\\""" still = 2
"""
literal = \'\'\'
fake2 = "
\'\'\'
other.dotted = 1
inline = { "quoted key" = 1, deep = { deeper = [ 1, { deepest = 2 } ] } }

[endpoints.http] # trailing
protocol = "http"
[[array]]
item = 1979-05-27 07:32:00
'''


def test_keys_tables_and_inline_tables_are_located() -> None:
    tomllib.loads(DOCUMENT)
    lines = locate(DOCUMENT)
    assert lines[("top",)] == 2
    assert lines[("component",)] == 4
    assert lines[("component", "command")] == 6
    assert lines[("component", "text")] == 10
    assert lines[("component", "literal")] == 15
    assert lines[("component", "other", "dotted")] == 18
    assert lines[("component", "inline", "quoted key")] == 19
    assert lines[("component", "inline", "deep", "deeper", "deepest")] == 19
    assert lines[("endpoints",)] == lines[("endpoints", "http")] == 21
    assert lines[("endpoints", "http", "protocol")] == 22
    assert lines[("array", "item")] == 24


def test_text_inside_of_strings_and_comments_is_no_key() -> None:
    names = {name for path in locate(DOCUMENT) for name in path}
    assert not {name for name in names if name.startswith(("fake", "not", "still", "value"))}


def test_a_missing_field_has_the_line_of_its_table_and_else_the_first() -> None:
    lines = locate(DOCUMENT)
    assert line_of(lines, ("component", "version")) == 4
    assert line_of(lines, ("limits", "memory")) == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=8))
def test_every_key_of_a_generated_document_is_on_its_line(items: list[tuple[str, int]]) -> None:
    text, expected = "", {}
    for number, (letter, blanks) in enumerate(items):
        text += "\n" * blanks + "# x\n" + f"{letter}{number}.k = [\n 1,\n]\n"
        expected[(f"{letter}{number}", "k")] = text.count("\n") - 2
    lines = locate(text)
    assert {path: lines[path] for path in expected} == expected


@given(st.text(alphabet="[]{}=,.\"'\n #ab1\\", max_size=60))
def test_any_text_is_scanned_to_its_end(text: str) -> None:
    locate(text)


@given(st.text(alphabet="[]{}=,.\"'\n #ab1\\", max_size=30))
def test_every_top_level_key_of_valid_text_is_found(text: str) -> None:
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {path[0] for path in locate(text)} == set(plain)

"""Formats, colour and texts."""

from __future__ import annotations

import io
import json

import pytest

from paas.base.errors import CATALOGUE, PlatformError
from paas.cli import inputs, texts
from paas.cli.output import Output, details

ROWS = [{"name": "a", "n": 1}, {"name": "bb", "n": 22}]
COLUMNS = (("NAME", lambda r: r["name"]), ("N", lambda r: str(r["n"])), ("MORE*", lambda r: "m"))


def printed(form: str, **words: str) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(form, stdout=out, stderr=err, **words), out, err


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("table", "NAME  N\na     1\nbb    22\n"),
        ("wide", "NAME  N   MORE\na     1   m\nbb    22  m\n"),
        ("json", '{"things": [{"name": "a", "n": 1}, {"name": "bb", "n": 22}]}\n'),
        ("jsonl", '{"name": "a", "n": 1}\n{"name": "bb", "n": 22}\n'),
        ("name", "a\nbb\n"),
    ],
)
def test_a_list_in_every_format(form, text):
    output, out, _ = printed(form)
    output.rows("things", ROWS, COLUMNS)
    assert out.getvalue() == text


def test_an_empty_list_says_so_beside_the_result():
    output, out, err = printed("table")
    output.rows("things", [], COLUMNS)
    assert (out.getvalue(), err.getvalue()) == ("", "no things\n")


def test_a_query_of_texts_is_lines_and_of_others_is_json():
    for form, query, text in (
        ("table", "things[].name", "a\nbb\n"),
        ("table", "things[0]", '{"name": "a", "n": 1}\n'),
        ("jsonl", "things[].n", "1\n22\n"),
    ):
        output, out, _ = printed(form, query=query)
        output.rows("things", ROWS, COLUMNS)
        assert out.getvalue() == text


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_error_is_printed_with_code_hint_and_its_exit_status(code):
    output, _, err = printed("table")
    exc = PlatformError(code)
    assert output.error(exc, "abc") == int(exc.kind.exit_status)
    assert f"[{code}]" in err.getvalue()
    assert exc.hint in err.getvalue()
    assert "trace abc" in err.getvalue()


def test_reasons_and_last_lines_of_an_error_are_for_people_too():
    exc = PlatformError("no-placement", reasons={"n1": ["memory", "cpu"]}, log=[{"message": "x"}])
    assert details(exc) == ["n1: memory, cpu", "| x"]


def test_colour_is_for_terminals_unless_asked_for(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    assert Output(stdout=Terminal()).colored
    assert not Output(stdout=io.StringIO()).colored
    assert Output(color="always", stdout=io.StringIO()).colored
    assert not Output(color="never", stdout=Terminal()).colored
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert Output(stdout=io.StringIO()).colored
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Output(stdout=Terminal()).colored


def test_a_state_has_a_mark_and_a_word_and_is_ascii_where_it_must_be():
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = Output(stdout=plain, stderr=io.StringIO())
    assert output.state("available") == "* available"
    assert Output(stdout=io.StringIO()).state("failed") == "✖ failed"
    output.line("Grüße")
    plain.flush()
    assert plain.buffer.getvalue() == b"Gr??e\n"


def test_binary_data_is_base64_in_json():
    assert Output("json", stdout=io.StringIO()).json({"d": b"hi"}) == '{"d": "aGk="}'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59, "59s"),
        (61, "1m1s"),
        (180, "3m"),
        (15_120, "4h12m"),
        (90_000, "1d1h"),
    ],
)
def test_ages(seconds, text):
    assert texts.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0"), (999, "999"), (38 << 20, "38M"), (1536, "1.5K")]
)
def test_sizes(count, text):
    assert texts.size(count) == text


def test_moments_and_fields():
    assert texts.moment(0.5) == "1970-01-01T00:00:00.500Z"
    assert texts.fields({"a": 1, "b": "x y"}) == 'a=1 b="x y"'


def test_inputs_are_one_object_or_pairs():
    assert inputs.read(()) == {}
    assert inputs.read(('{"a": [1]}',)) == {"a": [1]}
    pairs = ("n=1", "t=true", "s=x", 'q="1"', "e=", "u=http://h/?a=b", "l=[1,2]", "nan=NaN")
    assert inputs.read(pairs) == {
        "n": 1,
        "t": True,
        "s": "x",
        "q": "1",
        "e": "",
        "u": "http://h/?a=b",
        "l": [1, 2],
        "nan": "NaN",
    }


def test_an_error_object_can_always_be_read_by_a_program():
    output, _, err = printed("json")
    output.error(PlatformError("failed", "x", data_bytes=b"\0"), "t")
    assert json.loads(err.getvalue())["error"]["retryable"] is False

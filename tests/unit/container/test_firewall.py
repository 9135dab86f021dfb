"""The packet filter's documents; that they work is tested with containers."""

from __future__ import annotations

from paas.real.kernel_tables import SETS, Names, elements_command, table_document

NAMES = Names(table="t", bridge="b", link_prefix="v", reach="10.64.0.0/10", tunnel_id=7)


def test_tables_are_made_anew_in_one_transaction() -> None:
    document = table_document(NAMES)
    verbs = [(verb, next(iter(body))) for command in document for verb, body in command.items()]
    assert verbs[:3] == [("add", "table"), ("delete", "table"), ("add", "table")]
    made = verbs.count(("add", "set")) + verbs.count(("add", "map"))
    assert made == len([name for name in SETS if not name.endswith("6")])
    parts = [part for command in document for body in command.values() for part in body.values()]
    assert {part.get("table", part.get("name")) for part in parts} == {"t"}, "no other table"


def test_the_last_word_between_containers_is_drop() -> None:
    rules = [c["add"]["rule"] for c in table_document(NAMES) if "rule" in c.get("add", {})]
    between = [r["expr"] for r in rules if r["chain"] == "between"]
    assert between[-1] == [{"drop": None}]
    for chain in ("input", "prerouting"):
        assert [r["expr"] for r in rules if r["chain"] == chain][-1][-1] == {"drop": None}


def test_answers_pass_only_if_what_they_answer_may() -> None:
    rules = [c["add"]["rule"] for c in table_document(NAMES) if "rule" in c.get("add", {})]
    accepting = [
        r["expr"] for r in rules if r["chain"] == "between" and r["expr"][-1] == {"accept": None}
    ]
    looked_up = [e for e in accepting if "@grants" in str(e)]
    assert len(looked_up) == 2
    for expressions in accepting:
        assert "@" in str(expressions) or "related" in str(expressions)


def test_elements_become_one_command_and_none_becomes_none() -> None:
    assert elements_command("add", "t", "grants", []) == []
    (command,) = elements_command("add", "t", "grants", [("a", "b", "tcp", 1)])
    assert command["add"]["element"]["elem"] == [{"concat": ["a", "b", "tcp", 1]}]
    (command,) = elements_command("delete", "t", "uplinks", [("eth0",)])
    assert command["delete"]["element"]["elem"] == ["eth0"]

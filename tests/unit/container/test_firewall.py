"""The packet filter's documents; that they work is tested with containers."""

from __future__ import annotations

from paas.real.kernel_firewall import elements_command, table_document


def test_tables_are_made_anew_in_one_transaction() -> None:
    document = table_document("paas-x", "pbx", "pvx")
    verbs = [(verb, next(iter(body))) for command in document for verb, body in command.items()]
    assert verbs[:3] == [("add", "table"), ("delete", "table"), ("add", "table")]
    assert verbs.count(("add", "set")) == 2


def test_the_last_word_between_containers_is_drop() -> None:
    rules = [c["add"]["rule"] for c in table_document("t", "b", "v") if "rule" in c.get("add", {})]
    between = [r["expr"] for r in rules if r["chain"] == "between"]
    assert between[-1] == [{"drop": None}]
    for chain in ("input", "prerouting"):
        assert [r["expr"] for r in rules if r["chain"] == chain][-1][-1] == {"drop": None}


def test_elements_become_one_command_and_none_becomes_none() -> None:
    assert elements_command("add", "inet", "t", "grants", []) == []
    (command,) = elements_command("add", "inet", "t", "grants", [("a", "b", "tcp", 1)])
    assert command["add"]["element"]["elem"] == [{"concat": ["a", "b", "tcp", 1]}]

"""The hub goes and comes back: the component lives on, and everybody knows what became of what."""

from __future__ import annotations

import os
from typing import Any


def wait_until_noticed(component: Any) -> None:
    """The harness has noticed that there is no hub: a request is not sent but held."""
    code = ""
    while code != "not-available":
        answer = component.call("hub.groups", {"timeout": 0.01})
        code = answer["error"]["data"]["code"]


def test_the_component_survives_and_is_greeted_as_it_is(play: Any, hub: Any) -> None:
    running, component = play()
    component.ready()
    hub.close()
    hub.open()
    hub.until(lambda: len(hub.hellos) == 2)
    assert [h.phase for h in hub.hellos] == ["initializing", "available"]
    assert hub.hellos[1].component == "ab" * 20
    answers = hub.ask("component.invoke", {"operation": "o"})
    component.send({"id": component.asked("component.invoke")["id"], "result": {"outputs": 1}})
    hub.until(lambda: answers)
    assert answers == [{"outputs": 1}]
    assert os.path.exists(f"/proc/{running.pid}")


def test_a_request_that_the_hub_had_has_an_unknown_outcome(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    component.send({"id": 77, "method": "hub.join", "params": {"groups": ["g"]}})
    hub.request("hub.join")
    hub.close()
    assert component.answer(77)["error"]["data"]["code"] == "unknown-outcome"
    hub.open()


def test_a_request_without_a_hub_waits_for_the_next_one(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    hub.close()
    wait_until_noticed(component)
    component.send({"id": 78, "method": "hub.join", "params": {"groups": ["g"]}})
    hub.open()
    hub.reply(hub.request("hub.join"), {"positions": {"g": 1}})
    assert component.answer(78)["result"] == {"positions": {"g": 1}}


def test_without_a_hub_a_request_is_soon_not_available(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    hub.close()
    wait_until_noticed(component)
    component.send({"id": 79, "method": "hub.groups", "params": {}})
    assert component.answer(79)["error"]["data"]["code"] == "not-available"


def test_an_invocation_of_the_old_hub_is_not_answered_to_the_new_one(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    hub.ask("component.invoke", {"operation": "o"})
    asked = component.asked("component.invoke")
    hub.close()
    hub.open()
    hub.until(lambda: len(hub.hellos) == 2)
    component.send({"id": asked["id"], "result": {"outputs": 1}})
    assert component.call("log.write", {"message": "x"})["result"] == {}
    hub.message("x")
    assert hub.connection.dropped_answers == 0


def test_records_are_sent_again_until_a_hub_has_them(start: Any, hub: Any) -> None:
    hub.acknowledge = False
    start("sh", "-c", "echo precious; sleep 1000", protocol="none")
    hub.phase("available")
    hub.close()
    hub.acknowledge = True
    hub.open()
    assert hub.message("precious").sequence == 1
    assert hub.dropped == 0


def test_watches_are_opened_again_under_the_same_number(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    component.send({"id": 5, "method": "hub.watch", "params": {"group": "g"}})
    hub.reply(hub.request("hub.watch"), {"watch": 901, "snapshot": [], "index": 3})
    number = component.answer(5)["result"]["watch"]
    hub.notify("component.event", {"watch": 901, "index": 4, "event": "joined"})
    assert component.asked("component.event")["params"]["watch"] == number
    hub.close()
    hub.open()
    hub.reply(hub.request("hub.watch"), {"watch": 17, "snapshot": ["new"], "index": 9})
    resumed = component.asked("component.event")["params"]
    assert (resumed["watch"], resumed["event"], resumed["index"]) == (number, "resumed", 9)
    assert resumed["data"]["snapshot"] == ["new"]
    hub.notify("component.event", {"watch": 17, "index": 10, "event": "left"})
    assert component.asked("component.event")["params"]["watch"] == number
    component.send({"id": 6, "method": "hub.unwatch", "params": {"watch": number}})
    assert component.answer(6)["result"] == {}
    assert hub.request("hub.unwatch").notification


def test_a_watch_that_the_new_hub_refuses_is_lost_and_the_component_is_told(
    play: Any, hub: Any
) -> None:
    _, component = play()
    component.ready()
    component.send({"id": 5, "method": "controller.monitor", "params": {"component": "x"}})
    hub.reply(hub.request("controller.monitor"), {"watch": 1})
    number = component.answer(5)["result"]["watch"]
    hub.close()
    hub.open()
    hub.fail(hub.request("controller.monitor"), "no-such-target", "no component x")
    lost = component.asked("component.event")["params"]
    assert (lost["watch"], lost["event"], lost["reason"]) == (number, "lost", "no component x")


def test_a_component_that_ends_without_a_hub_leaves_its_exit_file(start: Any, hub: Any) -> None:
    hub.close()
    running = start("sh", "-c", "exit 5")
    assert running.wait()["reason"] == "exit:5"
    assert running.status == 5

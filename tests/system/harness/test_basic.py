"""A component's ordinary life, in both codecs and without any."""

from __future__ import annotations

from typing import Any

ECHO_SH = r"""
echo '{"jsonrpc":"2.0","id":1,"method":"component.ready"}' >&3
while IFS= read -r line <&3; do
  case "$line" in
    *component.invoke*)
      id=${line##*'"id":'}; id=${id%%[,\}]*}
      echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"outputs":{"heard":true}}}' >&3 ;;
    *component.configure*)
      id=${line##*'"id":'}; id=${id%%[,\}]*}
      echo '{"jsonrpc":"2.0","id":'"$id"',"result":{}}' >&3 ;;
  esac
done
"""


def test_a_shell_script_speaks_on_descriptor_3(start: Any, hub: Any) -> None:
    running = start("/bin/bash", "-c", ECHO_SH)
    hub.phase("available")
    assert hub.invoke("anything", {}) == {"heard": True}
    hub.call("harness.stop", {"grace_s": 5.0, "reason": "destroyed"})
    assert running.wait()["reason"] == "destroyed"

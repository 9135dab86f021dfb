"""The smallest harness: runs the command as the component's user, waits, writes the exit file.

It stands in for the real harness in these tests, so that what is tested is the container.  Its
component is user 0 where the configuration says `root`, and has no rules of Landlock where it says
`without_rules`, so that one wall can be tried without another.  Output of the command goes to
standard error of pid 1, which the controller keeps in the container's log.
"""

from __future__ import annotations

import json
import os

from paas.harness.settings import Handoff
from paas.real import kernel_capabilities as power
from paas.real import kernel_landlock as landlock


def main(handoff: Handoff) -> int:
    """Run the component to its end."""
    if handoff.configuration == "crash":
        raise RuntimeError("the harness failed on purpose")
    pid = os.fork()
    if pid == 0:
        run_component(handoff)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    facts = {"code": code if code >= 0 else None, "signal": -code if code < 0 else None}
    os.write(handoff.exit_file_fd, json.dumps(facts | {"reason": ""}).encode())
    return 0


def run_component(handoff: Handoff) -> None:
    """Become the component; never returns."""
    try:
        for fd in handoff.cgroup_fds:
            os.write(fd, b"0")
        os.dup2(2, 1)
        wanted = handoff.configuration if isinstance(handoff.configuration, dict) else {}
        if handoff.rules_fd >= 0 and not wanted.get("without_rules"):
            landlock.restrict(handoff.rules_fd, landlock.version())
        if not wanted.get("root"):
            power.become(handoff.component_uid, handoff.component_gid, handoff.capabilities)
        os.chdir(handoff.cwd)
        power.install_filter(handoff.seccomp_program)
        os.execvpe(handoff.command[0], handoff.command, dict(handoff.environment))
    finally:
        os._exit(127)

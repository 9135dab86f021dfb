"""The smallest harness: runs the command as the component's user, waits, writes the exit file.

It stands in for the real harness in these tests, so that what is tested is the container.  Output
of the command goes to standard error of pid 1, which the controller keeps in the container's log.
"""

from __future__ import annotations

import json
import os

from paas.harness.settings import Handoff
from paas.real.kernel_capabilities import install_filter


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
        if not (isinstance(handoff.configuration, dict) and handoff.configuration.get("root")):
            os.setgroups([])
            os.setresgid(*[handoff.component_gid] * 3)
            os.setresuid(*[handoff.component_uid] * 3)
        os.chdir(handoff.cwd)
        install_filter(handoff.seccomp_program)
        os.execvpe(handoff.command[0], handoff.command, dict(handoff.environment))
    finally:
        os._exit(127)

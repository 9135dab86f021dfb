"""What pid 1 of a container gives up before it does anything of its own; nothing comes back.

Bounds, capabilities, the ability to gain any by an execution, system calls: in this order, since
each step needs what a later one takes away.
"""

from __future__ import annotations

import os
import resource

from paas.container import limits
from paas.container.seccomp import Programs
from paas.real import kernel_capabilities as power


def give_up_power(programs: Programs) -> None:
    power.limit(resource.RLIMIT_CORE, 0, 0)
    power.limit(resource.RLIMIT_NOFILE, limits.OPEN_FILES, limits.OPEN_FILES)
    power.drop_bounding_set()
    power.lock_secure_bits()
    power.keep_capabilities((power.CAP_KILL, power.CAP_SETGID, power.CAP_SETUID))
    power.no_new_privileges()
    power.install_filter(programs.arguments)
    power.install_filter(programs.calls)
    power.undumpable()
    os.umask(0o022)

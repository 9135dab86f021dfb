"""The process of the certificate manager: opens the authority, answers on a UNIX socket.

It holds the key of the node's authority, perhaps the cluster's, so it refuses to run where others
can read: its directory and every file in it must belong to its user and be closed to all others.
It never dumps core, writes new files with mode 0600, and holds a lock so that there is never a
second authority beside it.
"""

from __future__ import annotations

import os
import resource
import stat
from functools import partial

import trio

from paas.base import locks
from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy, Files
from paas.certificates import messages
from paas.certificates.authority import open_authority
from paas.certificates.limits import CONNECTIONS_MAX
from paas.certificates.manager import CertificateService, Handler, Notice, methods
from paas.certificates.policy import POLICY, role_of
from paas.certificates.settings import Settings
from paas.certificates.state import Store
from paas.rpc.dispatch import Context, Dispatcher, PlainHandler, check_policy
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve
from paas.wire.registry import BY_NAME, Message

_LOCK_FILE = "lock"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def run(
    settings: Settings,
    *,
    files: Files,
    clock: Clock,
    entropy: Entropy,
    notice: Notice,
    task_status: trio.TaskStatus[messages.AuthorityInfo] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled.  `files` is rooted at `settings.directory`.

    Call `prepare_directory` first.  Started with a description of the authority; raises what
    `open_authority` raises.
    """
    authority, made = open_authority(
        settings.cluster,
        settings.node,
        Store(files),
        clock,
        entropy,
        may_begin=settings.may_begin,
    )
    notice("authority-made" if made else "authority-opened", cluster=settings.cluster)
    service = CertificateService(settings, authority, clock=clock, entropy=entropy, notice=notice)
    sweeper = Sweeper()
    async with trio.open_nursery() as nursery:
        dispatcher = _dispatcher(nursery, settings, service, clock, notice)
        nursery.start_soon(sweeper.run)
        listener = listen_unix(settings.socket_path, mode=0o666)
        await nursery.start(
            partial(serve, listener, dispatcher, sweeper, connections_max=CONNECTIONS_MAX)
        )
        task_status.started(service.describe())


def prepare_directory(path: str) -> int:
    """Make the directory private or refuse it; returns the descriptor of the lock, to be kept open.

    Raises `denied` when somebody else could read or replace the key, `conflict` when another
    process is the authority already.  Sets the process's umask and forbids core dumps.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.makedirs(path, mode=0o700, exist_ok=True)
    _check_private(path)
    for name in os.listdir(path):
        _check_private(os.path.join(path, name))
    try:
        return locks.take(os.path.join(path, _LOCK_FILE))
    except BlockingIOError:
        raise PlatformError(
            "conflict", f"another process is the authority of {path}", hint="stop it first"
        ) from None


def _check_private(path: str) -> None:
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode):
        raise _not_private(path, "is a symbolic link")
    if facts.st_uid != os.geteuid():
        raise _not_private(path, f"belongs to user {facts.st_uid}, not to {os.geteuid()}")
    if facts.st_mode & _OTHERS:
        raise _not_private(path, f"is open to others (mode {stat.S_IMODE(facts.st_mode):04o})")


def _not_private(path: str, why: str) -> PlatformError:
    return PlatformError(
        "denied",
        f"the authority's key is not kept in {path}: it {why}",
        hint="give it to the certificate manager's user alone: chown, chmod go=",
        path=path,
    )


def _dispatcher(
    nursery: trio.Nursery,
    settings: Settings,
    service: CertificateService,
    clock: Clock,
    notice: Notice,
) -> Dispatcher:
    def authorise(peer: Peer, method: str) -> None:
        rule = POLICY.get(method)
        if rule is None:
            return  # the dispatcher answers that there is no such method
        role = role_of(peer.info["credentials"], settings)
        if role not in rule.roles:
            notice("denied", method=method, role=role, pid=peer.info["credentials"].pid)
            wanted = " or ".join(sorted(rule.roles))
            raise PlatformError("denied", f"the role {wanted} is needed", missing=wanted)

    def on_bug(method: str, exc: Exception) -> None:
        notice("bug", method=method, error=repr(exc))

    dispatcher = Dispatcher(nursery, clock, authorise=authorise, on_bug=on_bug)
    for name, handler in methods(service).items():
        dispatcher.plain(BY_NAME[name], _with_credentials(handler))
    check_policy(dispatcher.methods(), POLICY)
    return dispatcher


def _with_credentials(handler: Handler) -> PlainHandler:
    def plain(params: Message, context: Context) -> Message:
        return handler(params, context.peer.info["credentials"])

    return plain

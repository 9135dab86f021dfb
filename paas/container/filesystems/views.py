"""The file tree of a container as its first process mounts it, for each of the file systems.

Called by `container/tree.py`, in the container's own mount namespace, as the host's root and before
the change of root: what is mounted ends with the namespace, and the host does not see it.

    overlay   layer (device or memory) over the container's directory; root and /app: overlays of
              base, bundle and layer
    btrfs     root is the container's clone itself, which has the bundle in its /app
    binds     root is in the layer; what the base and the bundle have at their top is shown there
              read-only

A layer may have content: after a rollback, what a component wrote earlier.  Nothing of it is
trusted: no name in it is followed where it could be a link (`_plain`), and what is written there is
made anew.  Its owners are of the range of the container that wrote it; a view shows them as those
of this one's range (`_own_range`), so a rollback need not touch every file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from paas.container import limits
from paas.container.plan import APP, LaunchOrder
from paas.real import kernel_loop as loop
from paas.real import kernel_mounts as mounts

ROOT = "root"
_NO_EFFECT = mounts.NO_SUID | mounts.NO_DEV
_WRITABLE = frozenset({"app", "dev", "proc", "run", "sys", "tmp"})
"""Top-level names of which every container has its own."""

SKELETONS = {
    "overlay": (ROOT, "upper", "work", "app-upper", "app-work", "upper/etc"),
    "binds": (ROOT, "names", "var-tmp", "names/etc"),
}
"""Directories of a layer; made ahead of need where it is kept ready, since the first ones wait for
the device."""


def mount_layer(order: LaunchOrder) -> None:
    """Mount what the container writes to, and make the directories it needs there."""
    _LAYERS[order.files.filesystem](order)


def mount_root(order: LaunchOrder) -> None:
    """Make `directory`/root the container's root, all but what has mounts of its own."""
    _ROOTS[order.files.filesystem](order)


def mount_app(order: LaunchOrder) -> None:
    """Show the bundle at /app, where the component may add to it."""
    _APPS[order.files.filesystem](order)


def plain_directory(path: str) -> None:
    """Make the directory, or refuse what else is there."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if os.path.islink(path) or not os.path.isdir(path):
            raise OSError(errno.ENOTDIR, f"the base's {os.path.basename(path)}") from None


def write_linked_names(order: LaunchOrder) -> None:
    """Where /etc is the base's, a link of it into /run (resolv.conf on many machines) leads to a
    file there, in the container's own memory; called when that is mounted."""
    if order.files.filesystem != "binds":
        return
    root = f"{order.directory}/{ROOT}"
    for name, text in _names(order).items():
        try:
            target = os.readlink(f"{root}/etc/{name}")
        except OSError:
            continue
        place = os.path.normpath(os.path.join("/etc", target))
        if place.startswith("/run/"):
            os.makedirs(f"{root}{os.path.dirname(place)}", 0o755, exist_ok=True)
            with open(f"{root}{place}", "x") as file:
                file.write(text)


# -- overlay --------------------------------------------------------------------------------------


def _overlay_layer(order: LaunchOrder) -> None:
    """Over the container's own host directory, which nobody needs by path from here on."""
    _mount_own(order)
    layer, base = order.directory, order.uid_base
    for name in SKELETONS["overlay"]:
        _make(f"{layer}/{name}")
    os.chown(f"{layer}/upper", base, base)
    _give_to_component(f"{layer}/app-upper", order)
    if order.files.content_uid_base >= 0:
        for name in sorted(_WRITABLE):
            _remove_whiteout(f"{layer}/upper/{name}")
    _write_names(f"{layer}/upper", order)


def _overlay_root(order: LaunchOrder) -> None:
    layer = order.directory
    lowers = order.lowers or (order.lower,)
    mounts.overlay(lowers, f"{layer}/upper", f"{layer}/work", f"{layer}/{ROOT}", _NO_EFFECT)


def _overlay_app(order: LaunchOrder) -> None:
    layer, app = order.directory, f"{order.directory}/{ROOT}{APP}"
    upper, work = f"{layer}/app-upper", f"{layer}/app-work"
    mounts.overlay((order.bundle_dir,), upper, work, app, _NO_EFFECT)


# -- btrfs ----------------------------------------------------------------------------------------


def _clone_layer(order: LaunchOrder) -> None:
    """The clone becomes a mount, with the effects of its files limited, and gets its owners."""
    root = f"{order.directory}/{ROOT}"
    mounts.bind(order.files.clone, root, _NO_EFFECT)
    _own_range(root, order)
    os.chown(root, order.uid_base, order.uid_base)
    plain_directory(f"{root}{APP}")
    _give_to_component(f"{root}{APP}", order)
    _write_names(root, order)


def _nothing(_order: LaunchOrder) -> None:
    """The clone has it all."""


# -- binds ----------------------------------------------------------------------------------------


def _bind_layer(order: LaunchOrder) -> None:
    _mount_own(order)
    layer, base = order.directory, order.uid_base
    for name in SKELETONS["binds"]:
        _make(f"{layer}/{name}")
    os.chown(f"{layer}/{ROOT}", base, base)
    os.chmod(f"{layer}/var-tmp", 0o1777)
    _write_names(f"{layer}/names", order)


def _bind_root(order: LaunchOrder) -> None:
    layer, root = order.directory, f"{order.directory}/{ROOT}"
    if len(order.lowers) > 1:
        raise OSError(errno.EOPNOTSUPP, "a base of several layers needs overlayfs or Btrfs")
    mounts.bind(root, root, _NO_EFFECT)
    _show_entries(order.lower, root, leave_out=_WRITABLE)
    for name in _names(order):
        if os.path.isfile(f"{root}/etc/{name}") and not os.path.islink(f"{root}/etc/{name}"):
            mounts.bind(f"{layer}/names/etc/{name}", f"{root}/etc/{name}", 0)
    place = f"{root}/var/tmp"
    if os.path.realpath(place) == place and os.path.isdir(place) and _for_everybody(place):
        mounts.bind(f"{layer}/var-tmp", place, _NO_EFFECT)


def _bind_app(order: LaunchOrder) -> None:
    app = f"{order.directory}/{ROOT}{APP}"
    _show_entries(order.bundle_dir, app, leave_out=frozenset())
    _give_to_component(app, order)


def _show_entries(source: str, target: str, *, leave_out: frozenset[str]) -> None:
    """Show every entry of `source` in `target`, read-only; links are made anew."""
    with os.scandir(source) as found:
        entries = [e for e in found if e.name not in leave_out]
    if len(entries) > limits.SHOWN_ENTRIES_MAX:
        raise OSError(errno.E2BIG, f"more than {limits.SHOWN_ENTRIES_MAX} entries in {source}")
    for entry in entries:
        place = f"{target}/{entry.name}"
        if entry.is_symlink():
            with contextlib.suppress(FileExistsError):
                os.symlink(os.readlink(entry.path), place)
            continue
        if entry.is_dir(follow_symlinks=False):
            plain_directory(place)
        elif entry.is_file(follow_symlinks=False):
            _plain_file(place)
        else:
            continue
        mounts.bind(entry.path, place, mounts.READ_ONLY | _NO_EFFECT)


def _for_everybody(path: str) -> bool:
    return os.stat(path).st_mode & 0o1777 == 0o1777


def _plain_file(path: str) -> None:
    """An empty file to mount on; what a component left there (after a rollback) is replaced."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))


# -- what they share ------------------------------------------------------------------------------


def _mount_own(order: LaunchOrder) -> None:
    """The device, or memory of the wanted size, at the container's directory."""
    layer, flags = order.directory, _NO_EFFECT | mounts.NO_ATIME
    if order.files.device:
        if order.files.mount:
            mounts.put(order.files.mount, layer)
        else:
            mounts.mount(order.files.device, layer, "ext4", flags, loop.MOUNT_OPTIONS)
        _own_range(layer, order)
    else:
        inodes = max(limits.INODES_MIN, order.disk_bytes // limits.BYTES_PER_INODE)
        size = f"size={order.disk_bytes},nr_inodes={inodes},mode=755"
        mounts.mount("paas", layer, "tmpfs", flags, size)


def _own_range(place: str, order: LaunchOrder) -> None:
    """Content of an earlier container's range is shown as this one's; other owners as they are."""
    earlier, now = order.files.content_uid_base, order.uid_base
    if earlier < 0 or earlier == now:
        return
    whole = limits.UIDS_PER_CONTAINER
    mounts.show_owners_as(place, ((0, 0, limits.UID_BASE_MIN), (earlier, now, whole)))


def _names(order: LaunchOrder) -> dict[str, str]:
    """Files of /etc that are this container's own."""
    found = {
        "hostname": f"{order.host_name}\n",
        "hosts": f"127.0.0.1 localhost\n{order.address} {order.host_name}\n",
    }
    if order.resolver:
        found["resolv.conf"] = f"nameserver {order.resolver}\noptions timeout:3 attempts:2\n"
    return found


def _write_names(tree: str, order: LaunchOrder) -> None:
    """Write them anew, following nothing; where /etc is no directory (any more) there are none."""
    owner = order.uid_base
    _make(f"{tree}/etc")
    try:
        etc = os.open(f"{tree}/etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fchown(etc, owner, owner)
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for name, text in _names(order).items():
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=etc)
                fd = os.open(name, how, 0o644, dir_fd=etc)
            except OSError:
                continue  # a directory of the component's, or no room left: its own affair
            try:
                os.write(fd, text.encode())
                os.fchown(fd, owner, owner)
            except OSError as exc:
                if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
            finally:
                os.close(fd)
    finally:
        os.close(etc)


def _make(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)


def _give_to_component(path: str, order: LaunchOrder) -> None:
    user, group = order.uid_base + limits.COMPONENT_UID, order.uid_base + limits.COMPONENT_GID
    os.chown(path, user, group, follow_symlinks=False)


def _remove_whiteout(path: str) -> None:
    """A top-level directory that the component's root removed is there again."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)


_Step = Callable[[LaunchOrder], None]

_LAYERS: dict[str, _Step] = {
    "overlay": _overlay_layer,
    "btrfs": _clone_layer,
    "binds": _bind_layer,
}
_ROOTS: dict[str, _Step] = {"overlay": _overlay_root, "btrfs": _nothing, "binds": _bind_root}
_APPS: dict[str, _Step] = {"overlay": _overlay_app, "btrfs": _nothing, "binds": _bind_app}

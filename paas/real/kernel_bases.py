"""The base `host`: this machine's programs and libraries, and nothing else of it.

A small tree of our own holds the few files of /etc that programs need and empty directories; the
host's /usr (and /bin, /lib*, ... where those are not links into it) is shown read-only on top.  No
home directories, no /var, no /opt, no secrets: a file of /etc is taken only if it is on the list
and readable by everybody.

Containers live longer than the controller that prepared their base, and what lies below an overlay
must not change while it is mounted.  So the tree is made anew only when the host's files are not
those it was made from (their facts are kept beside it), and then the old tree is moved aside: who
uses it goes on using it.  It goes with the node's state.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from paas.container.plan import Base
from paas.real.kernel_store import remove_tree

_EMPTY = (
    "app",
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var",
)
_TREES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC_FILES = (
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "mime.types",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "debian_version",
    "gai.conf",
    "inputrc",
    "magic",
    "python3/debian_config",
)
_ETC_TREES = ("alternatives", "ld.so.conf.d", "ssl/certs", "terminfo", "python3.11", "fonts")
_ETC_OWN = {
    "passwd": (
        "root:x:0:0:root:/:/bin/sh\n"
        "component:x:1000:1000:component:/app:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "group": "root:x:0:\ntty:x:5:\ncomponent:x:1000:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    "resolv.conf": "",
    "hosts": "127.0.0.1 localhost\n",
    "hostname": "localhost\n",
    "host.conf": "multi on\n",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of /etc that is taken over: a copy, or a link to `goal` into what is shown anyway.

    Size and time are there to tell whether the file is still the same.
    """

    name: str
    goal: str
    mode: int
    size: int
    mtime_ns: int


def prepare_host_base(directory: str, host: str = "/") -> Base:
    """The tree in `directory`, made from the machine whose root is `host` unless it is already."""
    etc = os.path.join(host, "etc")
    entries = list(_public_entries(etc))
    links, trees = _top_level(host)
    binds = [(os.path.join(host, name), f"/{name}") for name in ("usr", *trees)]
    base = Base(name="host", lower=directory, binds=tuple(binds))
    facts = hashlib.sha256(repr((entries, links, trees, _EMPTY, _ETC_OWN)).encode()).hexdigest()
    facts_file = Path(f"{directory}.facts")
    if facts_file.exists() and facts_file.read_text() == facts and os.path.isdir(directory):
        return base
    fresh = f"{directory}.new"
    remove_tree(fresh)
    os.makedirs(fresh)
    for name in (*_EMPTY, "usr", *trees, "var/log", "var/tmp", "var/cache", "var/lib"):
        os.mkdir(f"{fresh}/{name}")
    for name, goal in links.items():
        os.symlink(goal, f"{fresh}/{name}")
    _fill_etc(entries, etc, f"{fresh}/etc")
    os.chmod(fresh, 0o755)
    _move_aside(directory)
    os.rename(fresh, directory)
    facts_file.write_text(facts)
    return base


def _top_level(host: str) -> tuple[dict[str, str], list[str]]:
    """What stands beside /usr on the host: links with their goals, and directories."""
    links: dict[str, str] = {}
    trees: list[str] = []
    for name in _TREES:
        path = os.path.join(host, name)
        if os.path.islink(path):
            links[name] = os.readlink(path)
        elif os.path.isdir(path):
            trees.append(name)
    return links, trees


def _move_aside(directory: str) -> None:
    if os.path.isdir(directory):
        free = next(n for n in count(1) if not os.path.lexists(f"{directory}.{n}"))
        os.rename(directory, f"{directory}.{free}")


def _public_entries(etc: str) -> Iterator[_Entry]:
    names = list(_ETC_FILES)
    for tree in _ETC_TREES:
        for folder, _, files in os.walk(f"{etc}/{tree}"):
            names += (os.path.join(folder, file)[len(etc) + 1 :] for file in files)
    for name in sorted(names):
        entry = _entry(etc, name)
        if entry is not None:
            yield entry


def _entry(etc: str, name: str) -> _Entry | None:
    """A link into what is shown anyway, or a file that everybody may read; else None."""
    path = f"{etc}/{name}"
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            goal = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
            if goal.startswith("/usr/"):
                return _Entry(name, goal, found.st_mode, found.st_size, found.st_mtime_ns)
            found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH:
        return _Entry(name, "", found.st_mode, found.st_size, found.st_mtime_ns)
    return None


def _fill_etc(entries: list[_Entry], source: str, target: str) -> None:
    for entry in entries:
        path = f"{target}/{entry.name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.goal:
            os.symlink(entry.goal, path)
            continue
        try:
            shutil.copyfile(f"{source}/{entry.name}", path)
        except FileNotFoundError:
            continue  # gone meanwhile
        os.chmod(path, 0o755 if entry.mode & stat.S_IXOTH else 0o644)
    for name, text in _ETC_OWN.items():
        Path(target, name).write_text(text)
        os.chmod(f"{target}/{name}", 0o644)

"""The base `host`: this machine's programs and libraries, and nothing else of it.

A small tree of our own holds the few files of /etc that programs need and empty directories; the
host's /usr (and /bin, /lib*, ... where those are not links into it) is shown read-only on top.  No
home directories, no /var, no /opt, no secrets: a file of /etc is taken only if it is on the list
and readable by everybody.
"""

from __future__ import annotations

import os
import shutil
import stat
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
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
    "resolv.conf": "",
    "hosts": "127.0.0.1 localhost\n",
    "hostname": "localhost\n",
    "host.conf": "multi on\n",
}


def prepare_host_base(directory: str, host: str = "/") -> Base:
    """(Re)make the tree in `directory` from the machine whose root is `host`."""
    fresh = f"{directory}.new"
    remove_tree(fresh)
    for name in _EMPTY:
        os.makedirs(f"{fresh}/{name}")
    os.makedirs(f"{fresh}/usr")
    binds = [(os.path.join(host, "usr"), "/usr")]
    for name in _TREES:
        source = os.path.join(host, name)
        if os.path.islink(source):
            os.symlink(os.readlink(source), f"{fresh}/{name}")
        elif os.path.isdir(source):
            os.mkdir(f"{fresh}/{name}")
            binds.append((source, f"/{name}"))
    _fill_etc(os.path.join(host, "etc"), f"{fresh}/etc")
    for name in ("log", "tmp", "cache", "lib"):
        os.mkdir(f"{fresh}/var/{name}")
    os.chmod(fresh, 0o755)
    remove_tree(directory)
    os.rename(fresh, directory)
    return Base(name="host", lower=directory, binds=tuple(binds))


def _fill_etc(source: str, target: str) -> None:
    for name in _ETC_FILES:
        _copy_public(f"{source}/{name}", f"{target}/{name}")
    for name in _ETC_TREES:
        for folder, _, files in os.walk(f"{source}/{name}"):
            for file in files:
                path = os.path.join(folder, file)
                _copy_public(path, target + path[len(source) :])
    for name, text in _ETC_OWN.items():
        Path(target, name).write_text(text)
        os.chmod(f"{target}/{name}", 0o644)


def _copy_public(source: str, target: str) -> None:
    """Copy a link into what is shown anyway, or a file that everybody may read."""
    try:
        found = os.lstat(source)
        if stat.S_ISLNK(found.st_mode):
            goal = os.path.normpath(os.path.join(os.path.dirname(source), os.readlink(source)))
            if goal.startswith("/usr/"):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.symlink(goal, target)
                return
            found = os.stat(source)
        if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
            os.chmod(target, 0o755 if found.st_mode & stat.S_IXOTH else 0o644)
    except FileNotFoundError:
        return

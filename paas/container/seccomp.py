"""The system calls that a container may make, compiled once in the template process.

An allow-list.  What is on it is what ordinary programs and language run-times use; what can change
or inspect the world outside answers EPERM; what is on neither list does not exist here (ENOSYS), so
that a C library falls back as on an older kernel.  Foreign calling conventions (32-bit, x32) end
the process: their numbers are never checked against the wrong table.

Filters add up and the strictest answer counts, therefore three small programs instead of one with
rules that overlap:

    calls       the allow-list; pid 1 and everything below it
    arguments   of allowed calls: no new namespaces by clone, no raw or packet sockets, no families
                that reach past the container, no characters pushed into a terminal
    component   handed to the harness for its component: what only pid 1 still needed

Nothing is allowed that Docker's default profile refuses to a container without capabilities
(tests/unit/container/docker_calls.py names those calls).

Sources: seccomp(2); the kernel's system-call table; reliability battery, "Processes, syscalls".
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyseccomp


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALLOWED = _words("""
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 creat
close close_range stat fstat lstat newfstatat statx access faccessat faccessat2 lseek dup
dup2 dup3 pipe pipe2 poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create
timerfd_settime timerfd_gettime inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fcntl
flock fsync fdatasync sync syncfs sync_file_range truncate ftruncate fallocate fadvise64 readahead
sendfile splice tee vmsplice copy_file_range getdents getdents64 getcwd chdir fchdir rename renameat
renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat readlink readlinkat
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes utimensat futimesat
mknod mknodat statfs fstatfs getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr mmap munmap mprotect mremap
madvise msync mincore brk mlock mlock2 munlock mlockall munlockall membarrier memfd_create
pkey_alloc pkey_free pkey_mprotect rt_sigaction rt_sigprocmask rt_sigpending
rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack
restart_syscall pause alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_getres
gettimeofday time times timer_create timer_settime timer_gettime timer_getoverrun timer_delete
futex futex_waitv set_robust_list get_robust_list set_tid_address rseq sched_yield
sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler
sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min
sched_rr_get_interval getpriority setpriority
ioprio_get ioprio_set getcpu fork vfork execve
execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal
getpid getppid gettid
getpgid getpgrp setpgid getsid setsid getuid geteuid getgid getegid getresuid getresgid getgroups
capget getrlimit setrlimit prlimit64 getrusage sysinfo uname getrandom arch_prctl prctl
set_thread_area get_thread_area landlock_create_ruleset landlock_add_rule landlock_restrict_self
seccomp connect accept accept4 bind listen getsockname getpeername getsockopt setsockopt shutdown
sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shmget shmat shmdt shmctl semget semop semtimedop
semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
mq_getsetattr io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy process_mrelease
name_to_handle_at setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
capset clone socket socketpair ioctl
""")

DENIED = _words("""
unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree move_mount
mount_setattr swapon swapoff quotactl quotactl_fd acct ptrace process_vm_readv process_vm_writev
process_madvise kcmp pidfd_getfd add_key request_key keyctl bpf perf_event_open userfaultfd
io_uring_setup io_uring_enter io_uring_register kexec_load kexec_file_load init_module
finit_module delete_module create_module reboot settimeofday clock_settime clock_adjtime adjtimex
stime sethostname setdomainname syslog iopl ioperm modify_ldt vm86 vm86old open_by_handle_at
fanotify_init fanotify_mark lookup_dcookie nfsservctl vhangup uselib sysfs ustat _sysctl mbind
get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages move_pages memfd_secret statmount
listmount
""")

ONLY_PID_1 = _words("setgroups capset setfsuid setfsgid name_to_handle_at")

_NAMESPACE_FLAGS = 0x7E020080
"""CLONE_NEW* of every kind, the one for time (0x80) included; the low byte of clone's flags holds
the exit signal, which never has that bit."""

_INET_FAMILIES = (2, 10)
_UNIX, _NETLINK, _ROUTE = 1, 16, 0
_FAMILIES_END = 48
_TYPE_MASK = 0xF
_RAW, _RELIABLE_DATAGRAM, _PACKET = 3, 4, 10
_PERSONALITIES = (0x0, 0xFFFFFFFF)
_TERMINAL_REQUESTS = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCSETD."""

_INDISPENSABLE = {"read", "write", "execve", "exit_group", "mmap", "clone", "socket", "ioctl"}
_OPTIMIZE_BY_TREE = 2
"""Value of libseccomp 2.5's attribute for a balanced tree of comparisons."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Compiled filters, as BPF instructions."""

    calls: bytes
    arguments: bytes
    component: bytes


def compile_programs() -> Programs:
    return Programs(
        calls=_compile(pyseccomp.ERRNO(errno.ENOSYS), _allow_calls),
        arguments=_compile(pyseccomp.ALLOW, _deny_arguments),
        component=_compile(pyseccomp.ALLOW, _deny_pid_1_calls),
    )


def _allow_calls(wanted: Any) -> None:
    for name in ALLOWED:
        _add(wanted, pyseccomp.ALLOW, name)
    for name in DENIED:
        _add(wanted, pyseccomp.ERRNO(errno.EPERM), name)
    for value in _PERSONALITIES:
        match = pyseccomp.Arg(0, pyseccomp.EQ, value)
        _add(wanted, pyseccomp.ALLOW, "personality", match)
    # clone3 hides its flags in memory, out of a filter's sight: with ENOSYS (the default) every
    # C library uses clone.


def _deny_arguments(wanted: Any) -> None:
    arg, deny = pyseccomp.Arg, pyseccomp.ERRNO(errno.EPERM)
    equal, differs, masked = pyseccomp.EQ, pyseccomp.NE, pyseccomp.MASKED_EQ
    for bit in range(32):
        if _NAMESPACE_FLAGS >> bit & 1:
            _add(wanted, deny, "clone", arg(0, masked, 1 << bit, 1 << bit))
    for name in ("socket", "socketpair"):
        for kind in (_RAW, _RELIABLE_DATAGRAM, _PACKET):
            for family in _INET_FAMILIES:
                match = (arg(0, equal, family), arg(1, masked, _TYPE_MASK, kind))
                _add(wanted, deny, name, *match)
        for family in range(_FAMILIES_END):
            if family not in {_UNIX, _NETLINK, *_INET_FAMILIES}:
                _add(wanted, deny, name, arg(0, equal, family))
        # The comparison is on 64 bits: a family with high bits set, which the kernel would ignore,
        # is caught here too.
        _add(wanted, deny, name, arg(0, pyseccomp.GE, _FAMILIES_END))
    # Reading the interfaces (getifaddrs) asks the route protocol; changing them needs a capability
    # that nobody in here has.
    _add(wanted, deny, "socket", arg(0, equal, _NETLINK), arg(2, differs, _ROUTE))
    for request in _TERMINAL_REQUESTS:
        # Compared on 32 bits, as the kernel does: high bits must not slip a request through.
        _add(wanted, deny, "ioctl", arg(1, masked, 0xFFFFFFFF, request))


def _deny_pid_1_calls(wanted: Any) -> None:
    for name in ONLY_PID_1:
        _add(wanted, pyseccomp.ERRNO(errno.EPERM), name)


def _add(wanted: Any, action: int, name: str, *arguments: Any) -> None:
    try:
        wanted.add_rule(action, name, *arguments)
    except OSError:
        # A call that this architecture or this version of the library does not know: where calls
        # must be allowed by name it stays refused; those without which nothing runs are known.
        if name in _INDISPENSABLE:
            raise


def _compile(default: int, fill: Callable[[Any], None]) -> bytes:
    wanted = pyseccomp.SyscallFilter(defaction=default)
    # An older library does not know the attribute and makes a slower, equal program.
    with contextlib.suppress(OSError):
        wanted.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _OPTIMIZE_BY_TREE)
    fill(wanted)
    with tempfile.TemporaryFile() as file:
        wanted.export_bpf(file)
        file.flush()
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)

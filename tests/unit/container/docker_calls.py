"""What Docker's default profile refuses to a container without capabilities, by name (x86_64).

Source: moby, profiles/seccomp/default.json: every call of the kernel's table that is not on its
list of allowed calls, or only with a capability, or only with harmless arguments (`clone3`, which
is answered ENOSYS).
"""

_REFUSED = """
_sysctl acct add_key afs_syscall bpf cachestat chroot clock_settime clone3 create_module
delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick futex_requeue futex_wait
futex_wake get_kernel_syms get_mempolicy getpmsg init_module io_uring_enter io_uring_register
io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie map_shadow_stack
mbind migrate_pages mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree
perf_event_open pidfd_getfd pivot_root process_madvise putpmsg query_module quotactl quotactl_fd
reboot request_key security set_mempolicy set_mempolicy_home_node setdomainname sethostname setns
settimeofday swapoff swapon sysfs syslog tuxcall umount2 unshare uselib userfaultfd ustat vhangup
vserver
"""
REFUSED = _REFUSED.split()

ALLOWED_LATER = ["fchmodat2"]
"""Refused by versions that were made before the kernel had it, allowed since."""

_BESIDES = """
adjtimex clock_adjtime fanotify_mark memfd_secret modify_ldt process_vm_readv process_vm_writev
ptrace
"""
REFUSED_HERE_BESIDES = _BESIDES.split()
"""Docker allows them; the first two only to be read."""

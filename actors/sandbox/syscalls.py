"""Numbers of the system calls that the filter of a sandbox speaks of, for each architecture."""

from collections.abc import Mapping
from dataclasses import dataclass

NEWEST = 462
"""The newest call that was looked at (mseal). What the kernel adds later is answered "not implemented"."""

# Since Linux 5.1 new calls have one number everywhere.
_UNIFIED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448,
    "set_mempolicy_home_node": 450, "statmount": 457, "listmount": 458,
}  # fmt: skip

_X86_64 = {
    "ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "ptrace": 101, "syslog": 103, "uselib": 134,
    "personality": 135, "ustat": 136, "sysfs": 139, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155,
    "_sysctl": 156, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
    "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "create_module": 174, "init_module": 175, "delete_module": 176, "get_kernel_syms": 177, "query_module": 178,
    "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227, "mbind": 237,
    "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300,
    "prlimit64": 302, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
    "bpf": 321, "userfaultfd": 323,
}  # fmt: skip

_AARCH64 = {
    "lookup_dcookie": 18, "ioctl": 29, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "chroot": 51,
    "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92, "unshare": 97, "kexec_load": 104,
    "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142,
    "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "socket": 198, "socketpair": 199,
    "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225, "mbind": 235,
    "get_mempolicy": 236, "set_mempolicy": 237, "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241,
    "prlimit64": 261, "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280,
    "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip

# What reaches another process by its number, in the first argument.
_UNIFIED_SIGNALS = {"pidfd_open": 434}
_X86_64_SIGNALS = {"kill": 62, "rt_sigqueueinfo": 129, "tkill": 200, "tgkill": 234, "rt_tgsigqueueinfo": 297}
_AARCH64_SIGNALS = {"kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240}

# These are let through or refused by what they are asked for.
_INSPECTED = frozenset({"clone", "clone3", "ioctl", "personality", "prlimit64", "socket", "socketpair"})


@dataclass(frozen=True, slots=True)
class Architecture:
    """`audit` is the AUDIT_ARCH number by which the kernel names it; `signals` are calls that reach other processes;
    `mknods` are those that make files of any kind, with the place of the mode among their arguments.
    """

    audit: int
    numbers: Mapping[str, int]
    signals: Mapping[str, int]
    fcntl: int
    mknods: tuple[tuple[int, int], ...]

    @property
    def refused(self) -> tuple[str, ...]:
        """Calls that no program in a sandbox may make, whatever their arguments."""
        return tuple(name for name in self.numbers if name not in _INSPECTED)


ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        0xC000003E, _X86_64 | _UNIFIED, _X86_64_SIGNALS | _UNIFIED_SIGNALS, 72, ((133, 1), (259, 2))
    ),
    "aarch64": Architecture(0xC00000B7, _AARCH64 | _UNIFIED, _AARCH64_SIGNALS | _UNIFIED_SIGNALS, 25, ((33, 2),)),
}

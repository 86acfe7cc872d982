"""The system call filter of a sandbox as docker takes it: JSON text with the calls that are allowed, and no others.

It allows what `seccomp.py` lets through, so both kinds of sandbox refuse the same things. Here it must be a list
of what may be called, because an engine has its own idea of what to do with calls that a list does not name.
"""

import errno
import json
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from .seccomp import NAMESPACE_FLAGS, PERSONALITIES, SOCKET_FAMILIES, TERMINAL_INJECTIONS

ALLOWED = """
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres
    clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve
    execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat
    fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
    futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_setup io_submit ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr
    lsm_list_modules lstat madvise map_shadow_stack membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2
    pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg
    remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid
    setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt
    setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 splice stat statfs statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink
    unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
""".split()  # noqa: SIM905  one word per line would hide what is there

_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_WORD_BITS = 32


def profile_for(machine: str | None = None) -> str | None:
    """The profile for a machine as `platform.machine()` names it, this one by default; None where it is unknown."""
    architecture = _ARCHITECTURES.get(machine or platform.machine())
    if architecture is None:
        return None
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": [architecture], "syscalls": _rules()}
    return json.dumps(profile, separators=(",", ":"))


def _rules() -> list[dict[str, Any]]:
    rules = [_allow(ALLOWED)]
    for name in ("socket", "socketpair"):
        rules += [_allow([name], _equal(0, family)) for family in SOCKET_FAMILIES]
    rules.append(_allow(["prlimit64"], _equal(0, 0)))
    rules += [_allow(["personality"], _equal(0, persona)) for persona in PERSONALITIES]
    rules.append(_allow(["clone"], _masked(0, NAMESPACE_FLAGS, 0)))
    # A rule says what is equal, never what differs: so every command but those two, as patterns of bits.
    rules += [_allow(["ioctl"], _masked(1, mask, bits)) for mask, bits in _all_but(TERMINAL_INJECTIONS)]
    # The flags of clone3 lie behind a pointer; without it the C library falls back to clone.
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return rules


def _allow(names: Sequence[str], *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _masked(index: int, mask: int, bits: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": bits, "op": "SCMP_CMP_MASKED_EQ"}


def _all_but(values: Sequence[int], mask: int = 0, bits: int = 0) -> Iterator[tuple[int, int]]:
    """Masks, and the bits under them, that every 32-bit number matches one of, except `values`, which match none."""
    alike = [value for value in values if value & mask == bits]
    if not alike:
        yield mask, bits
    elif mask != (1 << _WORD_BITS) - 1:
        # The bits that are decided already are the high ones.
        next_bit = 1 << (_WORD_BITS - 1 - mask.bit_count())
        yield from _all_but(alike, mask | next_bit, bits)
        yield from _all_but(alike, mask | next_bit, bits | next_bit)

"""The default profile: what a container may ask of the kernel unless it is told otherwise; in effect it is Docker's.

Refused (EPERM) is what reaches beyond a container (mounting, modules, clocks, performance counters, new namespaces …),
unless a capability that the container was given is for just that. clone3 is ENOSYS rather than EPERM: its flags are in
memory, where a filter cannot see them, and C libraries then fall back to clone. Sockets of the families AF_ALG and
AF_VSOCK are refused: the one for its record of holes, the other because it talks to the hypervisor.

In one point it is stricter than Docker's: a socket's family is compared as 64 bits from both sides, where "greater than
40" would let 2**32 + 38 pass, which the kernel then cuts to 38, AF_ALG.
"""

from __future__ import annotations

from typing import Any, Final

_ALWAYS: Final = """
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt
gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""

_NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} in clone(2)'s flags."""
_ENOSYS: Final = 38
_ALL_BITS: Final = 0xFFFFFFFFFFFFFFFF

# Everything but 38 (AF_ALG), 40 (AF_VSOCK), and what is above the highest family that fits six bits.
_SOCKET_FAMILIES: Final = (
    {"op": "SCMP_CMP_LT", "value": 38},
    {"op": "SCMP_CMP_EQ", "value": 39},
    {"op": "SCMP_CMP_EQ", "value": 41},
    {"op": "SCMP_CMP_MASKED_EQ", "value": _ALL_BITS ^ 0x1, "valueTwo": 42},
    {"op": "SCMP_CMP_MASKED_EQ", "value": _ALL_BITS ^ 0x3, "valueTwo": 44},
    {"op": "SCMP_CMP_MASKED_EQ", "value": _ALL_BITS ^ 0xF, "valueTwo": 48},
)
# Linux, Linux32, both with UNAME26, and the question for the present one.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_BY_CAPABILITY: Final = (
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr"
        " lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl"
        " quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
)
_BY_ARCHITECTURE: Final = (
    (("ppc64le",), "sync_file_range2 swapcontext"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (("riscv64",), "riscv_flush_icache"),
)


def _allow(names: str, **more: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW", **more}


def default_document() -> dict[str, Any]:
    """The profile in the form of Docker's profile files: with conditions on capabilities, architecture and kernel."""
    without_admin = {"caps": ["CAP_SYS_ADMIN"]}
    ibm = {"arches": ["s390", "s390x"]}
    no_namespaces = {"op": "SCMP_CMP_MASKED_EQ", "value": _NEW_NAMESPACES, "valueTwo": 0}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_LOONGARCH64", "subArchitectures": []},
        ],
        "syscalls": [
            _allow(_ALWAYS),
            # Before 4.8 a tracer could change a call's number after the filter had seen it.
            _allow("process_vm_readv process_vm_writev ptrace", includes={"minKernel": "4.8"}),
            *(_allow("socket", args=[{"index": 0, **comparison}]) for comparison in _SOCKET_FAMILIES),
            *(
                _allow("personality", args=[{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}])
                for value in _PERSONALITIES
            ),
            *(_allow(names, includes={"arches": list(arches)}) for arches, names in _BY_ARCHITECTURE),
            *(_allow(names, includes={"caps": [capability]}) for capability, names in _BY_CAPABILITY),
            _allow("clone", args=[{"index": 0, **no_namespaces}], excludes={**without_admin, **ibm}),
            _allow("clone", args=[{"index": 1, **no_namespaces}], includes=ibm, excludes=without_admin),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "excludes": without_admin},
        ],
    }

"""The system calls that the filter (seccomp.py) judges, with their numbers on x86_64 and aarch64.

All calls of the kernel's tables (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl) were
considered. A call that is not listed here is open to every submission. Signals matter most: one SIGCONT,
whoever sends it, wakes a submission that stands still.
"""

from __future__ import annotations

MACHINES = ("x86_64", "aarch64")
NEWEST = 469  # file_setattr, of Linux 6.18: a later call could do anything, and nobody needs it yet

Numbers = tuple[int | None, int | None]


def _table(*lines: str) -> dict[str, Numbers]:
    """Numbers by name. An entry is `name on_x86_64 on_aarch64`; a dash: that machine has no such call."""
    rows = [entry.split() for line in lines for entry in line.split(",")]
    return {
        name: (None if x86 == "-" else int(x86), None if arm == "-" else int(arm)) for name, x86, arm in rows
    }


REFUSED = _table(
    # they send a signal later, or a signal whose sender and number the caller may choose
    "timer_create 222 107, setitimer 38 103, alarm 37 -",
    "mq_open 240 180, mq_unlink 241 181, mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184",
    "mq_getsetattr 245 185, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424",
    "vhangup 153 58",  # to all that share a terminal, SIGCONT among them
    # they go on while the caller stands still
    "io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427",
    "io_setup 206 0, io_destroy 207 1, io_submit 209 2, io_cancel 210 3, io_getevents 208 4",
    "io_pgetevents 333 292",  # these also read with RWF_NOWAIT, as preadv2 may not
    # they reach other processes' memory, descriptors, threads
    "ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440",
    "process_mrelease 448 448, pidfd_getfd 438 438, kcmp 312 272, get_robust_list 274 100",
    "migrate_pages 256 238, move_pages 279 239",
    # it reaches other programs on this machine: a daemon could do what a submission may not
    "connect 42 203",
    # they also carry descriptors, and memory whose descriptor is under way is counted nowhere
    "sendmsg 46 211, sendmmsg 307 269",
    # they tell which pages of files are in memory: one attempt could leave the next one a message there
    "mincore 27 232, cachestat 451 451",
    # large parts of the kernel that no model needs; a second filter could make a thread wait out of reach
    "perf_event_open 298 241, bpf 321 280, userfaultfd 323 282, memfd_secret 447 447, seccomp 317 277",
    # they make what outlives a process and is no file: the next run would find it
    "add_key 248 217, request_key 249 218, keyctl 250 219",
    "shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193, semctl 66 191",
    "semtimedop 220 192, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187",
    "setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463",
    "removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466",
    "file_setattr 469 469",
    # they tell which files others open: these have the names of patches
    "inotify_init 253 -, inotify_init1 294 26, fanotify_init 300 262",
    # namespaces and mounts; unshare would also hide a thread's descriptors
    "unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51",
    "open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432",
    "fspick 433 433, mount_setattr 442 442, open_tree_attr 467 467",
    "name_to_handle_at 303 264, open_by_handle_at 304 265",
    # the machine itself
    "kexec_load 246 104, kexec_file_load 320 294, init_module 175 105, finit_module 313 273",
    "delete_module 176 106, reboot 169 142, swapon 167 224, swapoff 168 225, acct 163 89, quotactl 179 60",
    "quotactl_fd 443 443, syslog 103 116, settimeofday 164 170, clock_settime 227 112, adjtimex 159 171",
    "clock_adjtime 305 266, sethostname 170 161, setdomainname 171 162, iopl 172 -, ioperm 173 -",
    "lookup_dcookie 212 18",
)
# Honest code calls these on itself, on files that it copies and on its workers. They do nothing and report
# success.
WITHOUT_EFFECT = _table(
    # with the same user, they also reach the parent; OpenMP calls them on its own threads
    "sched_setaffinity 203 122, sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274",
    "setpriority 141 140, ioprio_set 251 30",
    # they decide which files are in memory: a message to the next attempt
    "fadvise64 221 223, readahead 187 213",
    # marks on files, which Landlock does not cover
    "chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452",
    "chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54",
    "utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -",
    # all processes must stay in the group, which is stopped and killed as one
    "setsid 112 157, setpgid 109 154",
)
# The filter cannot see what the arguments of these point to; libraries fall back to clone and openat. openat2
# would also tell which names the kernel has looked up lately.
ABSENT = _table("clone3 435 435, openat2 437 437")
# Judged by their arguments
WEIGHED = _table(
    "socket 41 198, socketpair 53 199, clone 56 220, prctl 157 167, prlimit64 302 261, fcntl 72 25",
    "ioctl 16 29, kill 62 129, tkill 200 130, tgkill 234 131, madvise 28 233, fallocate 285 47",
    "preadv2 327 286, pwritev2 328 287, close_range 436 436, rt_sigaction 13 134",
    "mmap 9 222, memfd_create 319 279",
)

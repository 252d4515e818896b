"""Chooses the number of threads for matrix products, and how threads wait for each other.

The number depends on the machine and on what the process may use of it, not on the load: it
determines the order of additions, and two runs of one recipe give the same adapter.
"""

import math
import os
from pathlib import Path

# OpenMP and the libraries of matrix products read these when they are loaded.
THREADS, WAIT_POLICY = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"
SPIN_SETTINGS = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # of OpenMP, GNU's and LLVM's


def set_threads() -> None:
    """Set the number of threads, and let waiting threads sleep, unless the environment says so.

    By default a thread that waits for another spins. Where another process occupies a core, the
    thread that should run there waits for it while the others spin: each of the thousands of waits
    in a step then takes as long as the scheduler's time slice. Threads that sleep leave their core
    to others, and are scheduled as soon as they are woken.

    Call this before torch is imported.

    Source: OpenMP 5.2, section 21.7 (OMP_WAIT_POLICY); sched(7).
    """
    os.environ.setdefault(THREADS, str(count_usable_cores()))
    if not any(name in os.environ for name in SPIN_SETTINGS):
        os.environ[WAIT_POLICY] = "passive"


def count_usable_cores(root: Path = Path("/")) -> int:
    """Count the physical cores that this process may use, at least 1.

    These are the cores of its CPU affinity, but no more than the CPU limit of its cgroup, rounded
    up: with a limit of 1.5 CPUs, two threads get more done than one.

    Args:
        root: the folder that /proc and /sys are in.
    """
    cpus = _find_affinity()
    limit = _read_cpu_limit(root)
    cores = _count_cores(cpus, root / "sys/devices/system/cpu")
    return max(1, min(cores, math.ceil(limit)) if limit is not None else cores)


def _find_affinity() -> set[int]:
    """Find the numbers of the logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _count_cores(cpus: set[int], folder: Path) -> int:
    """Count the physical cores of logical CPUs; hardware threads of one core share its units.

    Source: the Linux kernel's documentation, admin-guide/cputopology.
    """
    cores = set()
    for cpu in cpus:
        siblings = folder / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(cpu))  # unknown: a core of its own
    return len(cores)


def _read_cpu_limit(root: Path) -> float | None:
    """Read the CPU limit of this process's cgroup and of all above it, in CPUs; None without.

    Source: the Linux kernel's documentation, admin-guide/cgroup-v2, section CPU; scheduler/
        sched-bwc (version 1).
    """
    limits = []
    for mount, path in _find_cgroups(root):
        folder = mount / path.lstrip("/")
        while True:
            limits += [limit for limit in (_read_v2(folder), _read_v1(folder)) if limit is not None]
            if folder == mount:
                break
            folder = folder.parent
    return min(limits, default=None)


def _find_cgroups(root: Path) -> list[tuple[Path, str]]:
    """Find where the cgroups of this process that may limit CPUs are: mount point and path."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mounts = root / "sys/fs/cgroup"
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((mounts, path))
        elif "cpu" in controllers.split(","):
            found += [(mounts / name, path) for name in (controllers, "cpu")]
    return found


def _read_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

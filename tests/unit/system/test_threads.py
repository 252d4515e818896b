"""How many cores a process may use, by affinity, hardware threads and the limits of its cgroup."""

import os
import subprocess
import sys

import pytest

from lora_tune.system import threads
from lora_tune.system.threads import SPIN_SETTINGS, THREADS, count_usable_cores, set_threads


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 logical CPUs, two for each core; returns a function that writes its files."""
    monkeypatch.setattr(threads, "_find_affinity", lambda: set(range(8)))
    for cpu in range(8):
        write(
            tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list",
            f"{cpu % 4},{cpu % 4 + 4}",
        )

    def write_files(**files):
        for name, text in files.items():
            write(tmp_path / name, text)
        return tmp_path

    return write_files


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_hardware_threads_of_one_core_count_once(machine):
    assert count_usable_cores(machine()) == 4


@pytest.mark.parametrize(
    ("cpus", "cores"), [({0}, 1), ({0, 4}, 1), ({0, 1}, 2), ({0, 1, 4, 5, 6}, 3)]
)
def test_affinity_limits_the_cores(machine, monkeypatch, cpus, cores):
    monkeypatch.setattr(threads, "_find_affinity", lambda: cpus)
    assert count_usable_cores(machine()) == cores


def test_without_topology_each_cpu_is_a_core(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "_find_affinity", lambda: {0, 3})
    assert count_usable_cores(tmp_path) == 2


@pytest.mark.parametrize(
    ("maximum", "cores"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),  # two threads get more done than one
        ("50000 100000", 1),
        ("25000 50000", 1),
        ("6400000 100000", 4),
        ("", 4),
    ],
)
def test_a_limit_of_version_2_is_respected(machine, maximum, cores):
    files = {"proc/self/cgroup": "0::/user/job", "sys/fs/cgroup/user/job/cpu.max": maximum}
    assert count_usable_cores(machine(**files)) == cores


def test_a_limit_above_the_own_cgroup_is_respected(machine):
    files = {
        "proc/self/cgroup": "0::/user/job",
        "sys/fs/cgroup/user/cpu.max": "100000 100000",
        "sys/fs/cgroup/user/job/cpu.max": "300000 100000",
    }
    assert count_usable_cores(machine(**files)) == 1


@pytest.mark.parametrize("path", ["/", "/docker/0123", "/../../outside"])
def test_a_container_sees_its_limit_at_the_mount_point(machine, path):
    files = {"proc/self/cgroup": f"0::{path}", "sys/fs/cgroup/cpu.max": "200000 100000"}
    assert count_usable_cores(machine(**files)) == 2


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("300000", 3), ("10000", 1)])
def test_a_limit_of_version_1_is_respected(machine, folder, quota, cores):
    place = f"sys/fs/cgroup/{folder}/job"
    files = {
        "proc/self/cgroup": "4:memory:/other\n3:cpuset:/\n2:cpu,cpuacct:/job\n0::/",
        f"{place}/cpu.cfs_quota_us": quota,
        f"{place}/cpu.cfs_period_us": "100000",
    }
    assert count_usable_cores(machine(**files)) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_the_affinity_is_that_of_the_process():
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); "
    code += "from lora_tune.system.threads import count_usable_cores as c; print(c())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


@pytest.mark.parametrize(
    ("own", "number", "policy"),
    [
        ({}, "3", "passive"),
        ({"OMP_NUM_THREADS": "7"}, "7", "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "3", "active"),
        ({"GOMP_SPINCOUNT": "1000"}, "3", None),
        ({"KMP_BLOCKTIME": "200"}, "3", None),
    ],
)
def test_what_the_user_has_set_rules(monkeypatch, own, number, policy):
    monkeypatch.setattr(threads, "count_usable_cores", lambda: 3)
    monkeypatch.setattr(
        os, "environ", {k: v for k, v in os.environ.items() if k not in (THREADS, *SPIN_SETTINGS)}
    )
    os.environ.update(own)
    set_threads()
    assert os.environ[THREADS] == number
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_torch_uses_as_many_threads_in_a_process_that_a_verb_has_prepared():
    code = "from lora_tune.commands.process_setup import prepare_process; prepare_process(); "
    code += "import torch; from lora_tune.system.threads import count_usable_cores as count; "
    code += "print(torch.get_num_threads() == count())"
    clean = {k: v for k, v in os.environ.items() if k not in (THREADS, *SPIN_SETTINGS)}
    assert subprocess.check_output([sys.executable, "-c", code], env=clean, text=True) == "True\n"

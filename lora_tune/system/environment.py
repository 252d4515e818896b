"""The process and its machine: device, seed, memory, library logging, versions, git state."""

import ctypes
import gc
import logging
import os
import platform
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "huggingface_hub",
    "lora-tune",
    "numpy",
    "omegaconf",
    "peft",
    "regex",
    "safetensors",
    "scikit-learn",
    "tokenizers",
    "torch",
    "transformers",
)
# Values of ONEDNN_MAX_CPU_ISA up to which oneDNN multiplies bfloat16 by float32 instructions.
ISAS_WITHOUT_BFLOAT16 = [
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from glibc's malloc.h

_keeps_freed_memory = False


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks instead of returning them to the kernel.

    Training frees and allocates the same large tensors at every step; by default, each allocation
    maps new pages, which cost a page fault each. torch is also set to request huge pages. Call this
    before torch allocates memory; the first part has no effect without glibc.

    Source: mallopt(3); madvise(2), MADV_HUGEPAGE.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        global _keeps_freed_memory
        _keeps_freed_memory = bool(
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
            and libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        )


def quiet_libraries() -> None:
    """Silence warnings, log messages and progress bars of libraries that are not for users."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    import datasets
    import huggingface_hub
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
    for name in ("bitsandbytes", "huggingface_hub", "httpx", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the loading report of transformers where the caller reports the same itself."""
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; call this before the head and the adapter are created."""
    import transformers

    transformers.set_seed(seed)


def find_device() -> str:
    """Return the device that transformers.Trainer uses: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def parallel_devices() -> int:
    """Count the devices that share an optimizer step in Trainer: processes, or GPUs of one."""
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by `accelerate launch` and torchrun
    return processes if processes > 1 else max(1, torch.cuda.device_count())


def free_memory() -> None:
    """Collect reference cycles, such as those of Trainer, and empty the CUDA memory cache."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory_bytes() -> int:
    """Return the peak memory of this process: allocated on the GPU, or resident without one.

    Source: getrusage(2); ru_maxrss is in kilobytes, on macOS in bytes.
    """
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def describe_environment(device: str) -> dict[str, Any]:
    """Describe library versions, the device and the git state, for `environment.json`."""
    import torch

    return {
        "python": platform.python_version(),
        "versions": library_versions(),
        "platform": platform.platform(),
        "device": device,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "keeps_freed_memory": _keeps_freed_memory,
        "bfloat16_units": find_bfloat16_units(device),
        "git": _git_state(),
    }


def find_bfloat16_units(device: str) -> str | None:
    """Name the unit of a device that multiplies bfloat16 matrices, unless its user hides it.

    `ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` hide instructions of x86 processors from torch.

    Args:
        device: cuda, mps or cpu.

    Returns:
        Its name; "none" where there is none; None where torch cannot tell.

    Source: oneDNN, CPU Dispatcher Control; the documentation of torch.cpu.get_capabilities.
    """
    import torch

    if device == "cuda":
        return "GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else "none"
    if device != "cpu":
        return None
    if platform.machine() == "aarch64" and hasattr(torch.cpu, "get_capabilities"):
        return "Arm" if torch.cpu.get_capabilities().get("bf16") else "none"
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    # oneDNN multiplies the matrices, and torch's own kernels convert them.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return "none"
    highest = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    allows_amx = highest in ("", "ALL", "DEFAULT") or "AMX" in highest
    if allows_amx and torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported() and highest not in ISAS_WITHOUT_BFLOAT16:
        return "AVX-512"
    return "none"


def library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that results depend on."""
    return {name: version for name in LIBRARIES if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device_name(device: str) -> str:
    """Name the GPU or the processor.

    Args:
        device: cuda, mps or cpu.
    """
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else _processor_name()


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the git checkout of lora_tune; None where there is none."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", Path(__file__).name):
            return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        pass
    return None

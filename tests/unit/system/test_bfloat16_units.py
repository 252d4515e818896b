"""Which unit multiplies bfloat16, on planted processors and with instructions hidden from torch."""

import pytest
import torch

from lora_tune.system.environment import find_bfloat16_units


@pytest.fixture
def processor(monkeypatch):
    """Plants an x86 processor, as torch describes it."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def plant(*, amx=False, avx512=True, capability="AVX512"):
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    return plant


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(True, True, "AMX"), (False, True, "AVX-512"), (False, False, "none")],
)
def test_the_unit_of_a_processor(processor, amx, avx512, expected):
    processor(amx=amx, avx512=avx512)
    assert find_bfloat16_units("cpu") == expected


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AVX2", "none"),
        ("avx512_core", "none"),
        ("AVX512_CORE_VNNI", "none"),
        ("AVX512_CORE_BF16", "AVX-512"),
        ("AVX10_1_512", "AVX-512"),
        ("AVX512_CORE_AMX", "AMX"),
        ("AVX10_1_512_AMX_FP16", "AMX"),
        ("ALL", "AMX"),
        ("DEFAULT", "AMX"),
    ],
)
def test_instructions_hidden_from_onednn(processor, monkeypatch, variable, value, expected):
    processor(amx=True)
    monkeypatch.setenv(variable, value)
    assert find_bfloat16_units("cpu") == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX512", "AVX-512"), ("AVX512_VNNI", "AVX-512"), ("AVX2", "none"), ("DEFAULT", "none")],
)
def test_instructions_hidden_from_torch(processor, capability, expected):
    """torch's name of what ATEN_CPU_CAPABILITY leaves."""
    processor(capability=capability)
    assert find_bfloat16_units("cpu") == expected


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, "Arm"), (False, "none")])
def test_an_arm_processor(monkeypatch, has_bfloat16, expected):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"bf16": has_bfloat16}, raising=False
    )
    assert find_bfloat16_units("cpu") == expected


def test_torch_cannot_tell_for_apple_gpus():
    assert find_bfloat16_units("mps") is None


@pytest.mark.parametrize(("is_supported", "expected"), [(True, "GPU"), (False, "none")])
def test_a_gpu_that_emulates_bfloat16_has_no_unit(monkeypatch, is_supported, expected):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: is_supported or including_emulation,
    )
    assert find_bfloat16_units("cuda") == expected

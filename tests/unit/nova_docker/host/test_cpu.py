# SPDX-License-Identifier: Apache-2.0
"""The host's CPUs, described as Nova's libvirt driver does."""

from __future__ import annotations

from nova.virt.libvirt import utils as libvirt_utils

from nova_docker.host import cpu

# The first and the last processor of two sockets with two cores of two threads each.
CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU
physical id\t: 0
siblings\t: 4
cpu cores\t: 2
flags\t\t: fpu sse sse2 pni pclmulqdq ssse3 sse4_1 sse4_2 aes avx512_vpopcntdq vmx
power management:

processor\t: 7
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU
physical id\t: 1
siblings\t: 4
cpu cores\t: 2
flags\t\t: fpu sse sse2 pni pclmulqdq ssse3 sse4_1 sse4_2 aes avx512_vpopcntdq vmx
power management:

"""

ARM_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd aes
CPU implementer\t: 0x41

"""


def test_a_description_has_the_features_and_topology_of_the_kernel():
    info = cpu.describe("x86_64", CPUINFO)
    assert {"sse4_1", "vmx"} < set(info.pop("features"))
    assert info == {
        "arch": "x86_64",
        "vendor": "GenuineIntel",
        "model": "Intel(R) Xeon(R) CPU",
        "topology": {"sockets": 2, "cores": 2, "threads": 2},
    }


def test_features_become_traits_as_in_the_libvirt_driver():
    traits = cpu.traits(cpu.describe("x86_64", CPUINFO))
    assert {name for name, has in traits.items() if has} == {
        "HW_ARCH_X86_64",
        "HW_CPU_HYPERTHREADING",
        "HW_CPU_X86_AESNI",
        "HW_CPU_X86_AVX512VPOPCNTDQ",
        "HW_CPU_X86_CLMUL",
        "HW_CPU_X86_INTEL_VMX",
        "HW_CPU_X86_SSE",
        "HW_CPU_X86_SSE2",
        "HW_CPU_X86_SSE3",
        "HW_CPU_X86_SSE41",
        "HW_CPU_X86_SSE42",
        "HW_CPU_X86_SSSE3",
        "HW_CPU_X86_VMX",
    }
    # Missing traits are listed too, so that Nova removes them.
    assert traits["HW_CPU_X86_AVX2"] is False
    assert set(libvirt_utils.TRAITS_CPU_MAPPING) < set(traits)


def test_other_architectures_have_features_but_no_topology():
    info = cpu.describe("aarch64", ARM_CPUINFO)
    assert info == {"arch": "aarch64", "features": ["aes", "asimd", "fp"]}
    traits = cpu.traits(info)
    assert traits["HW_ARCH_AARCH64"] and not traits["HW_ARCH_X86_64"]
    assert not traits["HW_CPU_HYPERTHREADING"]

# SPDX-License-Identifier: Apache-2.0
"""The ``quota:`` extra specs of flavors, with the meaning that Nova documents: pure.

Nova describes them for libvirt's virtual machines. Where a container has another limit
than a virtual machine, the functions here say how the one becomes the other. What the
kernel cannot limit for a container is not among :data:`NAMES`, and is refused.
"""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

from nova import exception

from nova_docker.container import isolation

_CPU_PERIOD = 100_000  # microseconds: the kernel's default
_SHARES_PER_VCPU = 1024
_MAX_SHARES = 262_144  # the kernel's maximum

# Of TBF, the kernel's traffic shaper: a rate has 32 bits, in bytes per second.
_MAX_RATE = 4_294_967
#: Bytes of the smallest bucket: no packet may be larger
MIN_BUCKET = 16 * 1024
_MAX_BURST_SECONDS = 60
# A burst is as much as the average allows in this time, if the flavor names none.
_BURST_SECONDS = 0.05
# How long a packet may wait before others are dropped
_QUEUE_SECONDS = 0.1

_CPU_SHARES = "quota:cpu_shares"
_CPU_PERIOD_SPEC = "quota:cpu_period"
_CPU_QUOTA = "quota:cpu_quota"

# Keys of HostConfig. None for the sum of reads and writes, which the kernel does not
# limit; and none for writes, because the root disk is part of the host's file system: a
# server that ends or calls sync writes the metadata of all of it, at its own rate. With
# few operations per second, it does not end for minutes, and the host's fsync waits.
_DISK = {
    "quota:disk_read_bytes_sec": "BlkioDeviceReadBps",
    "quota:disk_read_iops_sec": "BlkioDeviceReadIOps",
}
_MAX = {_CPU_PERIOD_SPEC: 1_000_000, _CPU_SHARES: _MAX_SHARES}
_MIN = {_CPU_PERIOD_SPEC: 1_000, _CPU_QUOTA: 1_000, _CPU_SHARES: 2}
# What a server receives is shaped at the host's end of its NIC, where Open vSwitch
# removes any shaper that is not its own when it adds the port.
_VIF = [f"quota:vif_outbound_{value}" for value in ("average", "peak", "burst")]

#: The extra specs that this module knows
NAMES = frozenset([_CPU_SHARES, _CPU_PERIOD_SPEC, _CPU_QUOTA, *_DISK, *_VIF])


class Rate(NamedTuple):
    """A limit on what a NIC sends.

    :ivar average: bytes per second
    :ivar peak: bytes per second during a burst, 0 for no limit of its own
    :ivar burst: bytes
    :ivar queue: bytes that may wait
    """

    average: int
    peak: int
    burst: int
    queue: int


def cpu(flavor: Any) -> dict[str, int]:
    """Return the limits on CPU time, as part of HostConfig.

    Nova's period and quota apply to each VCPU, which cannot use more than one CPU of
    the host. A container has one quota: that of all its VCPUs together. Without a
    limit, or with a negative one, a server has as many CPUs as VCPUs.

    :raises InvalidInput: if a value is malformed
    """
    shares = _value(flavor, _CPU_SHARES)
    period = _value(flavor, _CPU_PERIOD_SPEC) or _CPU_PERIOD
    quota = _value(flavor, _CPU_QUOTA, negative=True)
    each = min(quota, period) if quota > 0 else period
    return {
        "CpuShares": shares or min(flavor.vcpus * _SHARES_PER_VCPU, _MAX_SHARES),
        "CpuPeriod": period,
        "CpuQuota": flavor.vcpus * each,
    }


def disk(flavor: Any, device: str | None) -> dict[str, Any]:
    """Return the limits on reading the root disk, as part of HostConfig.

    :param device: the block device below the engine's data, None if there is none
    :raises InvalidInput: if a value is malformed, or there is no device to limit
    """
    limits = reads(flavor)
    if limits and device is None:
        raise exception.InvalidInput(
            reason="this host cannot limit disk I/O as the flavor's quota:disk_* "
            "requests, because the engine's data is not on a block device, or the "
            "kernel has no I/O throttling; use another flavor or host"
        )
    return {key: [{"Path": device, "Rate": rate}] for key, rate in limits.items()}


def reads(flavor: Any) -> dict[str, int]:
    """Return the limits on reading each disk and volume, by their keys in HostConfig.

    :raises InvalidInput: if a value is malformed
    """
    return {_DISK[name]: rate for name in _DISK if (rate := _value(flavor, name))}


def sending(flavor: Any) -> Rate | None:
    """Return the limit on what each NIC sends, None for no limit.

    As in libvirt, averages and peaks are in kB/s and bursts in KiB.

    :raises InvalidInput: if a value is malformed
    """
    name = "quota:vif_outbound"
    average, peak, burst = (_value(flavor, spec) for spec in _VIF)
    if not average:
        if peak or burst:
            raise _malformed(f"{name}_peak and {name}_burst need {name}_average")
        return None
    if max(average, peak) > _MAX_RATE:
        raise _malformed(f"{name}_average and {name}_peak must be at most {_MAX_RATE}")
    if peak and peak < average:
        raise _malformed(f"{name}_peak must not be less than {name}_average")
    if burst > average * _MAX_BURST_SECONDS:
        raise _malformed(
            f"{name}_burst must be at most {_MAX_BURST_SECONDS} times {name}_average"
        )
    rate = average * 1000
    bucket = max(burst * 1024 or int(rate * _BURST_SECONDS), MIN_BUCKET)
    return Rate(
        average=rate,
        peak=peak * 1000 if peak > average else 0,
        burst=bucket,
        queue=bucket + int(rate * _QUEUE_SECONDS),
    )


def refuse(flavor: Any, level: str, device: str | None) -> None:
    """Refuse a flavor whose limits are malformed, or cannot hold on this host.

    :param level: the server's, of :mod:`nova_docker.container.isolation`
    :param device: as for :func:`disk`
    :raises InvalidInput: if so
    """
    cpu(flavor)
    disk(flavor, device)
    if sending(flavor) and level == isolation.USER and isolation.has_net_admin(flavor):
        raise exception.InvalidInput(
            reason="the flavor's quota:vif_outbound_* needs docker:net_admin=false or "
            "another docker:isolation: root in the server could remove the limit; use "
            "another flavor"
        )


def refuse_change(old: Any, new: Any) -> None:
    """Refuse a resize that would need another container.

    :param old: the flavor that the server has
    :param new: the flavor that it is to get
    :raises ResizeError: if the limits on disk I/O differ
    """
    for name in _DISK:
        if _value(old, name) != _value(new, name):
            raise exception.ResizeError(
                reason=f"{name} of the new flavor differs, and the engine sets the "
                "limits on disk I/O when it creates the container; choose a flavor "
                "with the same limits, or create another server"
            )


def _value(flavor: Any, name: str, *, negative: bool = False) -> int:
    """Return the value of an extra spec, 0 if it requests nothing.

    :param negative: whether it may be negative
    """
    text = str(flavor.extra_specs.get(name, "0"))
    try:
        value = int(text)
    except ValueError:
        raise _malformed(f"{name}={text} is not a whole number") from None
    if value < 0 and not negative:
        raise _malformed(f"{name}={text} is negative")
    low, high = _MIN.get(name, 1), _MAX.get(name, 2**63 - 1)
    if value > 0 and not low <= value <= high:
        raise _malformed(f"{name}={text} is not in the range from {low} to {high}")
    return value


def _malformed(reason: str) -> exception.InvalidInput:
    return exception.InvalidInput(
        reason=f"the flavor's limits are not valid: {reason}; use another flavor"
    )

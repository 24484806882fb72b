"""A virtual machine for what this host's kernel cannot show: cgroup v2 with all controllers, AppArmor.

    result = run_in_vm(["/bin/sh", "-c", "cat /sys/fs/cgroup/cgroup.controllers"])
    assert result.exit_code == 0, result.output

    tests = pytest_in_vm(["tests/unit/kernel/test_cgroups_live.py"])
    assert not tests.failed, tests.result.output

    packages   Debian's kernel and AppArmor parser, downloaded and unpacked beside the sources (nothing is installed)
    tree       which files of this host the guest needs: Python, what is installed beside it, our sources, libraries
    cpio       the initramfs that holds them, in the format that the kernel unpacks
    machine    QEMU, its three serial lines, its end
    guest      process 1 in the guest
    suite      our own tests in the guest

QEMU emulates the processor (no KVM is needed), so everything takes about ten times its time, and a boot a few seconds.
"""

from __future__ import annotations

from harness.machine import VmFailed, VmResult, run_in_vm
from harness.suite import VmTests, pytest_in_vm

__all__ = ["VmFailed", "VmResult", "VmTests", "pytest_in_vm", "run_in_vm"]

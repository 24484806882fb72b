"""A virtual machine for what this host's kernel cannot show: cgroup v2 with all controllers, AppArmor.

    result = run_in_vm([sys.executable, "-m", "pytest", "tests/unit/kernel/test_cgroups_live.py"])
    assert result.exit_code == 0, result.output

    packages   Debian's kernel and AppArmor parser, downloaded and unpacked beside the sources (nothing is installed)
    tree       which files of this host the guest needs: Python, what is installed beside it, our sources, libraries
    cpio       the initramfs that holds them, in the format that the kernel unpacks
    machine    QEMU, its three serial lines, its end
    guest      process 1 in the guest

QEMU emulates the processor (no KVM is needed), so everything takes about ten times its time, a boot three seconds.
"""

from __future__ import annotations

from harness.machine import VmResult, run_in_vm

__all__ = ["VmResult", "run_in_vm"]

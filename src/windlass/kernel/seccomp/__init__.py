"""seccomp: which system calls a container may make.

    profile file (Docker's JSON) ── load_profile ──┐
    the default ─────────────── default_profile ───┴▶ OCI linux.seccomp ── compile_filter ──▶ BPF ── install ──▶ kernel

The first two depend on capabilities, machine and kernel; the compiled filter depends on the OCI object alone, so it can
be kept by the digest of that.
"""

from __future__ import annotations

from windlass.kernel.seccomp.compiler import compile_filter
from windlass.kernel.seccomp.install import Filter, flag_bits, install
from windlass.kernel.seccomp.profile import default_profile, load_profile

__all__ = ["Filter", "compile_filter", "default_profile", "flag_bits", "install", "load_profile"]

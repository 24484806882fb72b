"""Profile files in Docker's form, and the default."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel.seccomp import default_profile, load_profile
from windlass.kernel.seccomp.profile import parse_kernel_version


def allowed(profile: dict[str, Any]) -> set[str]:
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }


def test_the_default_refuses_with_eperm_and_knows_the_older_architectures() -> None:
    profile = default_profile([], "x86_64", (6, 1))
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert default_profile([], "aarch64", (6, 1))["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "archMap" not in profile


def test_the_default_names_426_system_calls_of_which_361_are_always_allowed() -> None:
    from windlass.kernel.seccomp.default import default_document

    rules = default_document()["syscalls"]
    assert len({name for rule in rules for name in rule["names"]}) == 426
    always = [rule for rule in rules if not rule.get("includes") and not rule.get("excludes") and not rule.get("args")]
    assert sum(len(rule["names"]) for rule in always) == 361


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("CAP_SYS_ADMIN", {"mount", "unshare", "setns", "bpf", "clone", "clone3", "lsm_list_modules"}),
        ("CAP_SYS_PTRACE", {"kcmp", "pidfd_getfd", "process_madvise"}),
        ("CAP_SYS_TIME", {"clock_settime", "settimeofday"}),
        ("CAP_SYS_CHROOT", {"chroot"}),
        ("CAP_SYS_MODULE", {"init_module", "finit_module", "delete_module"}),
        ("CAP_SYS_NICE", {"mbind", "set_mempolicy"}),
        ("CAP_DAC_READ_SEARCH", {"open_by_handle_at"}),
        ("CAP_SYSLOG", {"syslog"}),
        ("CAP_BPF", {"bpf"}),
        ("CAP_PERFMON", {"perf_event_open"}),
    ],
)
def test_a_capability_allows_the_calls_that_it_is_for(capability: str, calls: set[str]) -> None:
    assert not calls & allowed(default_profile([], "x86_64", (6, 1)))
    assert calls <= allowed(default_profile([capability], "x86_64", (6, 1)))


def test_tracing_is_allowed_where_a_tracer_cannot_change_a_call_behind_the_filter() -> None:
    assert "ptrace" in allowed(default_profile([], "x86_64", (4, 8)))
    assert "ptrace" not in allowed(default_profile([], "x86_64", (4, 7)))


@pytest.mark.parametrize(
    ("machine", "call"), [("x86_64", "arch_prctl"), ("aarch64", "cacheflush"), ("riscv64", "riscv_flush_icache")]
)
def test_calls_of_one_architecture_are_allowed_there_only(machine: str, call: str) -> None:
    for other in ("x86_64", "aarch64", "riscv64"):
        assert (call in allowed(default_profile([], other, (6, 1)))) == (other == machine)


def test_clone3_is_unknown_and_clone_makes_no_namespaces_without_sys_admin() -> None:
    rules = {rule["names"][0]: rule for rule in default_profile([], "x86_64", (6, 1))["syscalls"]}
    assert rules["clone3"]["action"] == "SCMP_ACT_ERRNO" and rules["clone3"]["errnoRet"] == 38
    assert rules["clone"]["args"] == [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7E020000, "valueTwo": 0}]


def document(**fields: Any) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [], **fields})


def test_a_profile_file_is_narrowed_to_capabilities_machine_and_kernel() -> None:
    text = document(
        flags=["SECCOMP_FILTER_FLAG_LOG"],
        archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        syscalls=[
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x"},
            {"name": "write", "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["kexec_load"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.0"}},
            {"names": ["swapon"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}},
        ],
    )
    profile = load_profile(text, ["CAP_SYS_ADMIN"], "x86_64", (4, 19))
    assert profile == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["swapon"], "action": "SCMP_ACT_ALLOW"},
        ],
    }


def test_an_empty_profile_file_asks_for_no_filter() -> None:
    assert load_profile("{}", []) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Decoding seccomp profile failed"),
        ("[]", "an object|a JSON object"),
        ('{"syscalls": 5}', "syscalls should be an array"),
        ('{"syscalls": [5]}', "should be an object"),
        (document(syscalls=[{"names": ["a"], "includes": {"caps": [5]}}]), "array of strings"),
        (document(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "x"}]), "use either"),
        (document(syscalls=[{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]), "use either"),
        (document(syscalls=[{"names": ["b"], "includes": {"minKernel": "4"}}]), "invalid kernel version"),
        ("[" * 100000, "Decoding"),
        (" " * (2 << 20), "larger"),
    ],
)
def test_what_is_no_profile_file_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_profile(text, [])


@pytest.mark.parametrize("text", ["", "4", "4.8.1", "0.0", "a.b", "-1.2", "4.256", "999999999999.1", None, 4.8, "٤.٨"])
def test_what_is_no_kernel_version_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="invalid kernel version"):
        parse_kernel_version(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["defaultAction", "syscalls", "archMap", "names", "includes", "caps", "minKernel", "name"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_a_profile_or_a_value_error(value: Any) -> None:
    try:
        load_profile(json.dumps(value), ["CAP_SYS_ADMIN"])
    except ValueError:
        pass

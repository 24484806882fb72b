"""Who may go and who may not: dockerd's rules as tables, on records alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from windlass.errors import Conflict
from windlass.images.records import ImageRecord, Snapshot
from windlass.images.removal import InUse, Plan
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
AT = "@sha256:" + "1" * 64


def records(names: Mapping[str, str], parents: Mapping[str, str] | None = None) -> Snapshot:
    """Images A, B, C with some names and parents."""
    manifest = Descriptor(mediaType="m", digest=Digest(f"sha256:{'f' * 64}"), size=1)
    images = {
        one: ImageRecord(manifest=manifest, target=manifest, layers=(), parent=(parents or {}).get(one, ""))
        for one in (A, B, C)
    }
    return Snapshot(images=images, names={f"docker.io/library/{name}": image for name, image in names.items()})


STOPPED, RUNNING = InUse("1" * 64, False), InUse("2" * 64, True)


def remove(
    state: Snapshot,
    what: str,
    *,
    force: bool = False,
    prune: bool = True,
    in_use: Mapping[str, list[InUse]] | None = None,
) -> tuple[list[str], Snapshot]:
    """Remove a name or an image; gives what was told, short, and the state after."""
    plan = Plan(state, in_use or {})
    if what in state.images:
        plan.remove(what, None, what, force=force, prune=prune)
    else:
        name = f"docker.io/library/{what}"
        plan.remove(state.names[name], name, what, force=force, prune=prune)
    told = [next(iter(entry.items())) for entry in plan.done]
    return [f"{verb} {text[7] if text.startswith('sha256:') else text}" for verb, text in told], plan.state


CASES = {
    "the only name takes the image along": ({"x:1": A}, {}, "x:1", ["Untagged x:1", "Deleted a"]),
    "one of two names is only a name": ({"x:1": A, "x:2": A}, {}, "x:1", ["Untagged x:1"]),
    "the last tag takes its digest along": (
        {"x:1": A, f"x{AT}": A}, {}, "x:1", ["Untagged x:1", f"Untagged x{AT}", "Deleted a"],
    ),
    "another tag of the repository keeps the digest": (
        {"x:1": A, "x:2": A, f"x{AT}": A}, {}, "x:1", ["Untagged x:1"],
    ),
    "another repository keeps the image": (
        {"x:1": A, f"x{AT}": A, "y:1": A}, {}, "x:1", ["Untagged x:1", f"Untagged x{AT}"],
    ),
    "by ID with one tag and its digest": (
        {"x:1": A, f"x{AT}": A}, {}, A, ["Untagged x:1", f"Untagged x{AT}", "Deleted a"],
    ),
    "by ID without a name": ({}, {}, A, ["Deleted a"]),
    "a parent without a name goes, too": ({"x:1": B}, {B: A}, "x:1", ["Untagged x:1", "Deleted b", "Deleted a"]),
    "a parent with a name stays": ({"x:1": B, "y:1": A}, {B: A}, "x:1", ["Untagged x:1", "Deleted b"]),
    "a parent with another child stays": ({"x:1": B}, {B: A, C: A}, "x:1", ["Untagged x:1", "Deleted b"]),
    "a name of an image with children": ({"x:1": A}, {B: A}, "x:1", ["Untagged x:1"]),
    "a digest alone": ({f"x{AT}": A}, {}, f"x{AT}", [f"Untagged x{AT}", "Deleted a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_goes(name: str) -> None:
    names, parents, what, expected = CASES[name]
    told, after = remove(records(names, parents), what)
    assert told == expected
    assert {one[7] for one in after.images} == set("abc") - {line[-1] for line in told if line.startswith("Deleted")}
    untagged = {f"docker.io/library/{line.split()[1]}" for line in told if line.startswith("Untagged")}
    assert set(after.names) == set(records(names).names) - untagged


def test_noprune_keeps_the_parents() -> None:
    told, after = remove(records({"x:1": B}, {B: A}), "x:1", prune=False)
    assert told == ["Untagged x:1", "Deleted b"]
    assert A in after.images


def test_a_used_parent_stays_quietly() -> None:
    told, _ = remove(records({"x:1": B}, {B: A}), "x:1", in_use={A: [STOPPED]})
    assert told == ["Untagged x:1", "Deleted b"]


SHORT = "a" * 12
REFUSED = {
    "the only name, used by a stopped container": (
        {"x:1": A}, {}, "x:1", {A: [STOPPED]},
        f'conflict: unable to remove repository reference "x:1" (must force) - '
        f"container 111111111111 is using its referenced image {SHORT}",
    ),
    "the only name, used by a running container": (
        {"x:1": A}, {}, "x:1", {A: [RUNNING]},
        f'conflict: unable to remove repository reference "x:1" (must force) - '
        f"container 222222222222 is using its referenced image {SHORT}",
    ),
    "by ID, in several repositories": (
        {"x:1": A, "y:1": A}, {}, A, {},
        f"conflict: unable to delete {SHORT} (must be forced) - image is referenced in multiple repositories",
    ),
    "by ID, used by a stopped container": (
        {"x:1": A}, {}, A, {A: [STOPPED]},
        f"conflict: unable to delete {SHORT} (must be forced) - image is being used by stopped container 111111111111",
    ),
    "by ID, used by a running container": (
        {"x:1": A}, {}, A, {A: [STOPPED, RUNNING]},
        f"conflict: unable to delete {SHORT} (cannot be forced) - "
        "image is being used by running container 222222222222",
    ),
    "by ID, with children": (
        {"x:1": A}, {B: A}, A, {},
        f"conflict: unable to delete {SHORT} (cannot be forced) - image has dependent child images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go(name: str) -> None:
    names, parents, what, in_use, words = REFUSED[name]
    with pytest.raises(Conflict) as failure:
        remove(records(names, parents), what, in_use=in_use)
    assert str(failure.value) == words


def test_force_overcomes_what_is_soft() -> None:
    told, _ = remove(records({"x:1": A, "y:1": A}), A, force=True, in_use={A: [STOPPED]})
    assert told == ["Untagged x:1", "Untagged y:1", "Deleted a"]
    told, _ = remove(records({"x:1": A}), "x:1", force=True, in_use={A: [STOPPED]})
    assert told == ["Untagged x:1", "Deleted a"]


def test_force_does_not_overcome_what_is_hard() -> None:
    with pytest.raises(Conflict, match="cannot be forced"):
        remove(records({"x:1": A}), A, force=True, in_use={A: [RUNNING]})
    with pytest.raises(Conflict, match="dependent child images"):
        remove(records({}, {B: A}), A, force=True)


def test_a_name_of_a_running_container_goes_by_force_and_the_image_stays() -> None:
    told, after = remove(records({"x:1": A}), "x:1", force=True, in_use={A: [RUNNING]})
    assert told == ["Untagged x:1"]
    assert A in after.images


def test_one_of_several_names_goes_whoever_uses_the_image() -> None:
    told, _ = remove(records({"x:1": A, "x:2": A}), "x:1", in_use={A: [RUNNING]})
    assert told == ["Untagged x:1"]

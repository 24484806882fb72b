"""Archives that want more than they may: each is a clear error, and nothing outside of the root is touched."""

from __future__ import annotations

import os
import struct
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import tars
from support.tars import archive, hard_link, member, symlink
from windlass.errors import InvalidParameter, SystemFailure, WindlassError
from windlass.images.archive.limits import Limits
from windlass.images.archive.reader import TarReader
from windlass.images.archive.unpack import LAYER_ALONE, LAYER_ON_TREE, Unpacking, Whiteouts, unpack

pytestmark = pytest.mark.root

IMPORT = Unpacking(Whiteouts.OVERLAY)
COPY = Unpacking(replace=True, complete=False)


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Path]:
    """A root beside something precious, which is as it was at the end."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "victim").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    yield root
    assert sorted(os.listdir(tmp_path)) == ["precious", "root", "victim"]
    assert (tmp_path / "precious").read_text() == "precious"
    assert os.listdir(tmp_path / "victim") == []


def run(data: bytes, root: Path, how: Unpacking = IMPORT, *, prefix: bytes = b"") -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        unpack(partial(next, iter([data]), b""), fd, how, prefix=prefix)
    finally:
        os.close(fd)


ESCAPES = {
    "a path that goes up": [member("../precious", b"x")],
    "a path that goes up and down": [member("a/../../precious", b"x")],
    "a path that only looks as if it went up": [member("a/../b", b"x")],
    "a file through an absolute link": [symlink("out", "/"), member("out/tmp/windlass-escape", b"x")],
    "a file through a relative link": [symlink("out", ".."), member("out/precious", b"x")],
    "a file through a link to a link": [symlink("a", "b"), symlink("b", ".."), member("a/precious", b"x")],
    "a directory through a link": [symlink("out", "../victim"), member("out/new/", mode=0o777)],
    "a link through a link": [symlink("out", "../victim"), symlink("out/link", "x")],
    "a device through a link": [symlink("out", "../victim"), member("out/d", kind=tarfile.CHRTYPE, device=(1, 3))],
    "a fifo through a link": [symlink("out", "../victim"), member("out/f", kind=tarfile.FIFOTYPE)],
    "a whiteout through a link": [symlink("out", ".."), member("out/.wh.precious")],
    "an opaque mark through a link": [symlink("out", "../victim"), member("out/.wh..wh..opq")],
    "a hard link to what is outside": [hard_link("x", "../precious")],
    "a hard link to an absolute path": [hard_link("x", "/etc/passwd")],
    "a hard link through a link": [symlink("out", ".."), hard_link("x", "out/precious")],
    "a hard link below a link": [member("f", b"x"), symlink("out", "../victim"), hard_link("out/f", "f")],
    "a hard link to nothing": [hard_link("x", "nowhere")],
    "a hard link to itself": [hard_link("x", "x")],
    "a hard link to a directory": [member("d/"), hard_link("x", "d")],
    "a hard link to the root": [hard_link("x", ".")],
    "a link in a circle": [symlink("a", "b"), symlink("b", "a"), member("a/x", b"x")],
    "a path through a file": [member("f", b"x"), member("f/x", b"x")],
    "a file for the root": [member("./", kind=tarfile.REGTYPE)],
    "a link for the root": [symlink(".", "/")],
    "a whiteout of the parent": [member("d/.wh...")],
    "a whiteout of the directory itself": [member("d/.wh..")],
    "a whiteout of nothing": [member("d/.wh.")],
    "the same file twice": [member("f", b"1"), member("f", b"2")],
    "a link over a file": [member("f", b"1"), symlink("f", "x")],
    "a file over a link": [symlink("f", "../precious"), member("f", b"2")],
    "a file over a directory": [member("d/"), member("d", b"2")],
    "a directory over a link": [symlink("d", "../victim"), member("d/"), member("d/x", b"x")],
    "a device that is a whiteout in disguise": [member("x", kind=tarfile.CHRTYPE)],
    "a name with a part that is too long": [member("n" * 256, b"x")],
    "a path that is too long": [member("/".join(["n" * 200] * 30), b"x")],
    "an unknown type": [member("x", kind=b"Q")],
    "a continued volume": [member("x", kind=b"M")],
}


@pytest.mark.parametrize("how", [IMPORT, LAYER_ALONE, LAYER_ON_TREE], ids=["import", "overlay", "tree"])
@pytest.mark.parametrize("name", ESCAPES)
def test_what_leaves_the_root_or_the_rules_is_refused(name: str, how: Unpacking, jail: Path) -> None:
    with pytest.raises(InvalidParameter, match="invalid tar archive"):
        run(archive(*ESCAPES[name]), jail, how)
    assert not os.path.exists("/tmp/windlass-escape")


def test_absolute_names_and_links_stay_inside(jail: Path) -> None:
    run(archive(member("/abs", b"x"), symlink("link", "/etc/shadow"), hard_link("hard", "/abs")), jail)
    assert (jail / "abs").read_bytes() == b"x"
    assert (jail / "hard").stat().st_nlink == 2
    assert os.readlink(jail / "link") == "/etc/shadow"


def test_a_link_inside_the_root_may_be_on_the_way(jail: Path) -> None:
    """As tools write it that put packages together: lib → usr/lib, then lib/x."""
    run(archive(member("usr/lib/"), symlink("lib", "usr/lib"), member("lib/x", b"x")), jail)
    assert (jail / "usr/lib/x").read_bytes() == b"x"


def test_a_directory_may_be_named_twice(jail: Path) -> None:
    run(archive(member("d/", mode=0o700), member("d/x", b"x"), member("d/", mode=0o711)), jail)
    assert (jail / "d").stat().st_mode & 0o777 == 0o711
    assert (jail / "d/x").read_bytes() == b"x"


def test_a_copy_replaces_what_it_meets_and_does_not_follow_it(jail: Path) -> None:
    (jail / "dir").mkdir()
    os.symlink("../../precious", jail / "dir/link")
    os.symlink("/", jail / "dir/slash")
    run(
        archive(member("link", b"new"), member("slash/", mode=0o755), member("slash/x", b"x")),
        jail,
        COPY,
        prefix=b"/dir",
    )
    assert (jail / "dir/link").read_bytes() == b"new"
    assert not (jail / "dir/link").is_symlink()
    assert (jail / "dir/slash/x").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["/", "..", "../..", "/../victim", "../victim"])
def test_a_copy_through_a_link_of_the_container_stays_in_the_container(target: str, jail: Path) -> None:
    os.symlink(target, jail / "link")
    (jail / "victim").mkdir()
    run(archive(member("file", b"new")), jail, COPY, prefix=b"/link")
    inside = jail / "victim" if "victim" in target else jail
    assert (inside / "file").read_bytes() == b"new"


OVERLAY_ATTRIBUTES = [
    "trusted.overlay.redirect",
    "trusted.overlay.opaque",
    "user.overlay.metacopy",
    "user.overlay.opaque",
]


@pytest.mark.parametrize("name", OVERLAY_ATTRIBUTES)
def test_what_overlay_writes_for_itself_is_not_taken_from_an_archive(name: str, jail: Path) -> None:
    run(
        archive(member("d/", pax={f"SCHILY.xattr.{name}": "y"}), member("f", b"x", pax={f"SCHILY.xattr.{name}": "/"})),
        jail,
    )
    assert os.listxattr(jail / "d") == []
    assert os.listxattr(jail / "f") == []


def small(**limits: int) -> Unpacking:
    return Unpacking(Whiteouts.OVERLAY, limits=Limits(**limits))


LIMITS = {
    "too many entries": (small(entries=10), [member(f"f{i}") for i in range(11)]),
    "too many devices": (small(devices=2), [member(f"d{i}", kind=tarfile.CHRTYPE, device=(1, 3)) for i in range(3)]),
    "too large": (small(unpacked_bytes=1000), [member("a", bytes(600)), member("b", bytes(600))]),
    "too long": (small(path_bytes=50), [member("n" * 60)]),
    "extended header": (small(header_bytes=1000), [member("a", pax={"comment": "x" * 2000})]),
    "too many": (small(name_bytes=100), [member("n" * 60), member("m" * 60)]),
}


@pytest.mark.parametrize("reason", LIMITS)
def test_limits_hold(reason: str, jail: Path) -> None:
    how, members = LIMITS[reason]
    with pytest.raises(InvalidParameter, match=reason):
        run(archive(*members), jail, how)


def sparse(size: int) -> dict[str, str]:
    """The pax records of a sparse file in format 1.0."""
    names = ("major", "minor", "name", "realsize")
    return {f"GNU.sparse.{name}": value for name, value in zip(names, ("1", "0", "s", str(size)), strict=True)}


def test_a_sparse_file_larger_than_allowed_is_refused_before_it_is_made(jail: Path) -> None:
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": str(1 << 50),
    }
    with pytest.raises(InvalidParameter, match="too large"):
        run(archive(member("x", b"0\n".ljust(512, b"\0"), pax=pax)), jail)
    assert os.listdir(jail) == []


SPARSE_MAPS = {
    "overlapping": "3\n0\n512\n256\n512\n0\n0\n",
    "backwards": "2\n1024\n512\n0\n512\n",
    "beyond the end": "1\n10000\n512\n",
    "more than is stored": "1\n0\n1024\n",
    "not a number": "1\nx\n512\n",
    "negative": "1\n-1\n512\n",
    "without an end": "100\n0\n",
    "too many": "999999999\n",
    "no number at all": "\n\n\n",
}


@pytest.mark.parametrize("name", SPARSE_MAPS)
def test_malformed_sparse_maps_are_refused(name: str, jail: Path) -> None:
    pax = sparse(2048)
    data = SPARSE_MAPS[name].encode().ljust(512, b"\0") + bytes(512)
    with pytest.raises(InvalidParameter, match="invalid tar archive"):
        run(archive(member("x", data, pax=pax)), jail)


def header(**fields: bytes) -> bytes:
    """A header block with fields as raw bytes, and a right checksum."""
    places = {
        "name": (0, 100),
        "mode": (100, 8),
        "uid": (108, 8),
        "gid": (116, 8),
        "size": (124, 12),
        "mtime": (136, 12),
    }
    block = bytearray(member("x")[0].tobuf(tarfile.USTAR_FORMAT))
    for field, value in fields.items():
        offset, length = places[field]
        block[offset : offset + length] = value.ljust(length, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HEADERS = {
    "a size that is no number": header(size=b"9x"),
    "a size with a sign": header(size=b"-1"),
    "a size with an underscore": header(size=b"1_0"),
    "a size with digits that are not octal": header(size=b"00000000009"),
    "a negative binary size": header(size=b"\xff" * 12),
    "a size beyond all bounds": header(size=b"\x80" + b"\xff" * 11),
    "an owner beyond all bounds": header(uid=b"\x80" + b"\x7f" * 7),
    "a negative owner": header(gid=b"\xff" * 8),
    "a time beyond all bounds": header(mtime=b"\x80" + b"\x7f" * 11),
    "no checksum": member("x")[0].tobuf(tarfile.USTAR_FORMAT)[:148] + bytes(8) + member("x")[0].tobuf()[156:512],
    "noise": os.urandom(512),
}


@pytest.mark.parametrize("name", HEADERS)
def test_malformed_headers_are_refused(name: str, jail: Path) -> None:
    with pytest.raises(InvalidParameter, match="invalid tar archive"):
        run(HEADERS[name] + bytes(1024), jail)


PAX_DATA = {
    "no length": b"path=x\n",
    "a length too long": b"99 path=x\n",
    "a length too short": b"5 path=x\n",
    "a length of nothing": b"0 path=x\n",
    "a negative length": b"-9 path=x\n",
    "no newline": b"9 path=xx",
    "no key": b"5 =x\n",
    "no equals sign": b"8 pathx\n",
    "a name with a NUL": b"12 path=a\0b\n",
    "an owner that is no number": b"10 uid=-1\n",
    "a huge owner": b"20 uid=99999999999\n",
    "a size that is no number": b"10 size=x\n",
    "a huge size": b"29 size=99999999999999999999\n",
    "a time that is none": b"11 mtime=x\n",
    "a huge time": b"33 mtime=99999999999999999999999\n",
}


@pytest.mark.parametrize("name", PAX_DATA)
def test_malformed_pax_records_are_refused(name: str, jail: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid tar archive|too large"):
        run(archive(member("pax", PAX_DATA[name], kind=b"x"), member("x", b"x"), format=tarfile.USTAR_FORMAT), jail)


def test_an_archive_that_was_cut_is_refused_wherever_that_was(jail: Path) -> None:
    whole = archive(member("a", b"x" * 1000), member("n" * 150, b"y" * 1000))
    complete = len(whole) - 512
    for cut in range(0, complete, 100):
        with pytest.raises(InvalidParameter, match=r"unexpected end|ends after"):
            run(whole[:cut], jail, Unpacking(replace=True))


def test_without_an_end_marker_only_what_a_digest_vouches_for_is_accepted(jail: Path) -> None:
    data = archive(member("a", b"x"), end=False)
    with pytest.raises(InvalidParameter, match="unexpected end"):
        run(data, jail, IMPORT)
    run(data, jail, COPY)
    (jail / "a").unlink()
    run(data, jail, LAYER_ALONE)


def test_a_full_disk_is_the_hosts_failure(tmp_path: Path) -> None:
    import subprocess

    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", point], check=True)
    try:
        with pytest.raises(SystemFailure, match="No space left on device"):
            run(archive(member("big", bytes(200_000))), point)
        subprocess.run(["mount", "-o", "remount,size=1m,nr_inodes=4", point], check=True)
        with pytest.raises(SystemFailure, match="No space left on device"):
            run(archive(*(member(f"f{i}") for i in range(10))), point)
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_root_that_is_exchanged_while_unpacking_stays_inside(jail: Path) -> None:
    """Another process turns directories into links while we unpack into a running container (CVE-2018-15664)."""
    import threading

    (jail / "target").mkdir()
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            try:
                os.rename(jail / "target", jail / "aside")
                os.symlink("/../../victim", jail / "target")
                os.unlink(jail / "target")
                os.rename(jail / "aside", jail / "target")
            except OSError:
                pass

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        data = archive(*(member(f"d{i}/f", b"x") for i in range(20)))
        for _ in range(40):
            try:
                run(data, jail, COPY, prefix=b"/target")
            except WindlassError:
                pass
    finally:
        stop.set()
        thread.join()


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_noise_is_never_more_than_an_error(noise: bytes) -> None:
    _read_all(noise)


SEED = archive(
    member("dir/"),
    member("dir/file", b"x" * 700, pax={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}),
    member("n" * 150, b"y" * 10),
    symlink("link", "t" * 120),
    hard_link("hard", "dir/file"),
    member("null", kind=tarfile.CHRTYPE, device=(1, 3)),
    member("dir/.wh.gone"),
)


@given(
    edits=st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    fix=st.booleans(),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_archive_is_never_more_than_an_error(edits: list[tuple[int, bytes]], fix: bool) -> None:
    data = bytearray(SEED)
    for place, value in edits:
        data[place : place + len(value)] = value
    data = data[: len(SEED)]
    if fix:  # right checksums let the damage through to what reads the fields
        for start in range(0, len(data), 512):
            block = data[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    _read_all(bytes(data))


def _read_all(data: bytes) -> None:
    reader = TarReader(partial(next, iter([data]), b""), limits=Limits(unpacked_bytes=1 << 20))
    try:
        for entry in reader:
            assert 0 <= entry.size <= 1 << 20
            total = sum(len(piece) for piece in reader.data())
            assert total == entry.stored
    except InvalidParameter:
        pass


def test_old_signed_checksums_are_accepted(jail: Path) -> None:
    block = bytearray(header(name="größe".encode("latin-1")))
    signed = sum(struct.unpack("148b8x356b", bytes(block))) + 256
    block[148:156] = b"%06o\0 " % signed
    run(bytes(block) + bytes(1024), jail)
    assert os.listdir(os.fsencode(jail)) == ["größe".encode("latin-1")]


def test_tars_reads_back_what_it_builds() -> None:
    assert tars.contents(tars.files({"a": b"1"})) == {"a": b"1"}

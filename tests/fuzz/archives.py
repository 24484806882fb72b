"""Archives mutated at random, for as long as one likes: `python -m tests.fuzz.archives --seconds 600`.

Each case is built from a seed number, so a failure can be repeated with `--seed N --cases 1`. A case takes an archive
with everything in it, damages it (bytes, blocks, header fields with right checksums, pax records, compression), and
gives it to the unpacker in its three ways and to `Images.load`. What must hold:

    only typed errors come out            nothing outside of the root changes
    the store is as it was after an error no descriptor stays open, no case takes long or much memory
"""

from __future__ import annotations

import argparse
import asyncio
import bz2
import gzip
import lzma
import os
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import zstandard

from support.imagestore import loaded, state
from support.tars import archive, files, hard_link, member, symlink
from windlass.errors import WindlassError
from windlass.images import Images
from windlass.images.archive.compression import decompressed
from windlass.images.archive.limits import Limits
from windlass.images.archive.unpack import Unpacking, Whiteouts, unpack

LIMITS = Limits(unpacked_bytes=64 << 20, entries=10_000, ratio=1000, ratio_from=8 << 20)
WAYS = {
    "overlay": (Unpacking(Whiteouts.OVERLAY, limits=LIMITS), b""),
    "tree": (Unpacking(Whiteouts.APPLY, limits=LIMITS, complete=False), b""),
    "copy": (Unpacking(replace=True, limits=LIMITS, complete=False), b"/target"),
}
PACKERS = [gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
TARGETS = ["..", "../..", "/", "/etc", "target", "../victim", "/proc/self/root", "a", "/../../victim", "./."]
NAMES = ["a", "a/b", "a/b/c", "..", "../victim/x", "/abs", "target/x", ".wh.a", "a/.wh..wh..opq", "n" * 120, "a/", "./"]

PAX_KEYS = ["SCHILY.xattr.user.a", "mtime", "path", "linkpath", "GNU.sparse.map", "size", "uid"]
FIELDS = [(0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)]


def seed_archive(rng: random.Random) -> bytes:
    """A random archive of valid members that may not fit each other."""
    members = []
    for _ in range(rng.randrange(1, 25)):
        name = rng.choice(NAMES)
        kind = rng.randrange(8)
        if kind < 3:
            pax = {rng.choice(PAX_KEYS): rng.choice(["1", "x", "0,5"])} if rng.random() < 0.2 else None
            data = rng.randbytes(rng.choice([0, 1, 511, 512, 513, 70_000]))
            members.append(member(name.rstrip("/") or "f", data, mode=rng.randrange(0o10000), pax=pax))
        elif kind == 3:
            members.append(member(name.rstrip("/") + "/", mode=rng.randrange(0o10000)))
        elif kind == 4:
            members.append(symlink(name, rng.choice(TARGETS)))
        elif kind == 5:
            members.append(hard_link(name, rng.choice(NAMES + TARGETS)))
        else:
            special = rng.choice([tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
            members.append(member(name, kind=special, device=(rng.randrange(5), rng.randrange(5))))
    return archive(*members, end=rng.random() < 0.9, format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The archive with some damage."""
    out = bytearray(data)
    for _ in range(rng.randrange(6)):
        if len(out) < 1024:
            break
        block = 512 * rng.randrange(len(out) // 512)
        what = rng.randrange(6)
        if what == 0:
            out[rng.randrange(len(out))] = rng.randrange(256)
        elif what == 1:
            out[block:block] = out[block : block + 512 * rng.randrange(1, 4)]
        elif what == 2:
            del out[block : block + 512]
        elif what == 3:
            out = out[: rng.randrange(len(out))]
        else:
            start, length = rng.choice(FIELDS)
            noise = rng.randbytes(length)
            value = rng.choice([b"\xff" * length, b"7" * length, noise, b"\x80" + noise[1:], b"../x"])
            out[block + start : block + start + length] = value.ljust(length, b"\0")[:length]
            out[block + 148 : block + 156] = b" " * 8
            out[block + 148 : block + 156] = b"%06o\0 " % sum(out[block : block + 512])
    result = bytes(out)
    if rng.random() < 0.3:
        result = rng.choice(PACKERS)(result)
        if rng.random() < 0.5 and result:
            cut = bytearray(result)
            cut[rng.randrange(len(cut))] ^= rng.randrange(256)
            result = bytes(cut[: rng.randrange(len(cut))]) if rng.random() < 0.5 else bytes(cut)
    return result


def victims(scratch: Path) -> list[tuple[str, bytes]]:
    """What is around the root, and its content."""
    found = (scratch / "outside").rglob("*")
    return sorted((str(path), path.read_bytes() if path.is_file() else b"") for path in found)


def unpack_case(scratch: Path, data: bytes, way: str) -> None:
    """One archive in one way."""
    how, prefix = WAYS[way]
    root = scratch / "outside/root"
    shutil.rmtree(root, ignore_errors=True)
    before = victims(scratch)
    (root / "target").mkdir(parents=True)
    os.symlink("../../victim", root / "target/link")
    descriptors = len(os.listdir("/proc/self/fd"))
    fd = os.open(root, os.O_RDONLY)
    try:
        unpack(partial(next, decompressed([data], limits=LIMITS), b""), fd, how, prefix=prefix)
    except WindlassError:
        pass
    finally:
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == descriptors, "a descriptor stayed open"
    shutil.rmtree(root)
    assert victims(scratch) == before, "something outside changed"


async def load_case(images: Images, rng: random.Random, data: bytes) -> None:
    """The same archive as a layer of an image, and as an image."""
    manifest = b'[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l/layer.tar"]}]'
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%064d"]}}' % 0
    whole = files({"l/layer.tar": data, "c.json": config, "manifest.json": manifest})
    before = state(images)
    for candidate in (data, whole, damaged(rng, whole)):
        try:
            await loaded(images, candidate)
        except WindlassError:
            assert state(images) == before, "a failure changed the store"
    images.driver.close()  # what is deleted in the background would show among the descriptors


async def run(options: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    deadline = time.monotonic() + options.seconds
    number = options.seed
    with tempfile.TemporaryDirectory(prefix="windlass-fuzz-", dir=options.directory) as name:
        scratch = Path(name)
        (scratch / "outside/victim").mkdir(parents=True)
        (scratch / "outside/victim/precious").write_text("precious")
        images = await Images.open(scratch / "images")
        while time.monotonic() < deadline and number < options.seed + options.cases:
            rng = random.Random(number)
            data = damaged(rng, seed_archive(rng))
            started = time.monotonic()
            try:
                for way in WAYS:
                    unpack_case(scratch, data, way)
                await load_case(images, rng, data)
                assert time.monotonic() - started < 30, "a case took too long"
            except Exception:
                traceback.print_exc()
                print(f"\nseed {number} fails: python -m tests.fuzz.archives --seed {number} --cases 1")
                return 1
            number += 1
        await images.close()
    print(f"{number - options.seed} cases, seeds {options.seed} to {number - 1}: nothing found")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--cases", type=int, default=10**9, help="how many cases at most")
    parser.add_argument("--seed", type=int, default=int(time.time()) * 1000, help="the number of the first case")
    parser.add_argument("--directory", default=None, help="where to work (default: the directory for temporary files)")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

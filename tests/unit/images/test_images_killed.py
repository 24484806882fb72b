"""A store whose process is killed at any moment opens again, with all that was finished and nothing half-done."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from support import imagestore
from windlass.images import Images

pytestmark = pytest.mark.root

WORK = """
import asyncio, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from support.imagestore import collected, loaded, reference, stream
from support.tars import archive, member
from windlass.errors import WindlassError
from windlass.images import Images

async def main():
    images = await Images.open(Path(sys.argv[1]))
    rng = random.Random(int(sys.argv[2]))
    images_made, roots_made = {i.repo_tags[0]: i.id for i in images.list() if i.repo_tags}, set(images.roots.names())

    def say(*words):
        print(*words, flush=True)

    async def step(number):
        kind = rng.choice(["import", "import", "create", "create", "remove-root", "remove", "load", "commit", "pair"])
        name = f"n{rng.randrange(4)}:1"
        if kind == "import":
            data = archive(*(member(f"d{n}/f", rng.randbytes(5000)) for n in range(rng.randrange(1, 40))))
            say("begin image", name)
            image = await images.import_(stream(data), reference=reference(name))
            images_made[name] = image.id
            say("image", name, image.id)
        elif kind == "create" and images_made:
            root = f"r{number}-{rng.randrange(10**9)}"
            await images.create_rootfs(root, rng.choice(sorted(images_made.values())), storage_opt={})
            roots_made.add(root)
            say("root", root)
        elif kind == "remove-root" and roots_made:
            root = roots_made.pop()
            say("begin remove-root", root)
            await images.remove_rootfs(root)
            say("removed-root", root)
        elif kind == "remove" and name in images_made:
            del images_made[name]
            say("begin image", name)
            await images.remove(name, force=True, in_use={})
            say("removed", name)
        elif kind == "load" and images_made:
            name = rng.choice(sorted(images_made))
            await loaded(images, await collected(images.save([name])))
            say("loaded", name)
        elif kind == "commit" and roots_made and images_made:
            name = rng.choice(sorted(images_made))
            root = sorted(roots_made)[0]
            say("begin image", "c:1")
            image = await images.commit(root, None, config={}, reference=reference("c:1"))
            say("image", "c:1", image.id)
        elif kind == "pair":
            await asyncio.gather(step(number + 1000), step(number + 2000), return_exceptions=True)

    for number in range(10**6):
        try:
            await step(number)
        except (WindlassError, KeyError):
            pass

asyncio.run(main())
"""


async def check(root: Path, names: dict[str, str | None], roots: dict[str, bool | None]) -> None:
    """Open the store and compare it with what was acknowledged; None is a step that was under way."""
    images = await Images.open(root)
    try:
        assert await images.fsck() == []
        for name, image_id in names.items():
            if image_id:
                assert images.resolve(name).id == image_id
        found = set(images.roots.names())
        assert {name for name, there in roots.items() if there} <= found
        assert not {name for name, there in roots.items() if there is False} & found
        for image in images.list():
            name = f"look-{os.urandom(4).hex()}"
            await images.create_rootfs(name, image.id, storage_opt={})
            assert await images.changes(name) == []
            with imagestore.container_root(images, name) as tree:
                assert (tree / "proc").is_dir()
            await images.remove_rootfs(name)
        assert not [info for info in images.driver.walk() if info.name.startswith(".")]
        assert os.listdir(root / "ingest") == []
    finally:
        await images.close()
    driver = root / images.driver_name
    assert os.listdir(driver / "trash") == []
    assert not [name for name in os.listdir(driver / "roots") if name.startswith((".", "look"))]
    assert not [name for name in os.listdir(root) if name.startswith(".")], "no temporary file stays"


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    support = str(Path(__file__).parents[2])
    names: dict[str, str | None] = {}
    roots: dict[str, bool | None] = {}
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, tmp_path / "images", str(100 * seed + turn), support], stdout=subprocess.PIPE
        )
        assert process.stdout
        try:
            for _ in range(rng.randrange(1, 60)):
                _note(process.stdout.readline().decode().split(), names, roots)
        finally:
            process.kill()
        for line in process.stdout.read().decode().splitlines():
            _note(line.split(), names, roots)
        process.stdout.close()
        assert process.wait() == -9, "it was still working"
        (tmp_path / "images/.records.json.0123abcd").write_text("half")
        asyncio.run(check(tmp_path / "images", names, roots))


def _note(words: list[str], names: dict[str, str | None], roots: dict[str, bool | None]) -> None:
    match words:
        case ["begin", "image", name]:
            names[name] = None
        case ["image", name, image_id]:
            names[name] = image_id
        case ["removed", name]:
            names[name] = None
        case ["root", name]:
            roots[name] = True
        case ["begin", "remove-root", name]:
            roots[name] = None
        case ["removed-root", name]:
            roots[name] = False

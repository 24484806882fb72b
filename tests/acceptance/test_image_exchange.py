"""Images go from us to other engines and back by archives: with the same IDs and files, whoever saved or loads."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import peers
from bench.__main__ import busybox_root

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("dockerd"), reason="needs Debian's docker.io")]

MAKE = "echo made > /etc/made; rm -f /etc/passwd; touch -d @1000000 /etc/made"
SHOW = "cat /etc/made; echo $FROM; stat -c %Y /etc/made; ls /etc/passwd 2>&1; true"


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, peers.Peer]]:
    root = Path(tempfile.mkdtemp(prefix="windlass-exchange-"))
    try:
        with peers.windlass(root) as ours, peers.docker(root) as theirs:
            yield {"windlass": ours[1], "docker": theirs[0]}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def image_id(engine: peers.Peer, name: str) -> str:
    return text(engine, "image", "inspect", "--format", "{{.Id}}", name).strip()


def text(engine: peers.Peer, *words: str) -> str:
    return engine.run(*words).decode()


@pytest.mark.parametrize(("maker", "taker"), [("windlass", "docker"), ("docker", "windlass")])
def test_an_image_of_two_layers_goes_over(
    maker: str, taker: str, engines: dict[str, peers.Peer], tmp_path: Path
) -> None:
    source, target = engines[maker], engines[taker]
    base, name = f"base-{maker}:1", f"made-{maker}:1"
    source.run("import", "--change", "ENV FROM=import", "-", base, stdin=busybox_root())
    box = text(source, "run", "-d", base, "sh", "-c", MAKE).strip()
    source.run("wait", box)
    source.run("commit", "--change", 'CMD ["sh"]', box, name)
    source.run("rm", box)
    saved = tmp_path / "saved.tar"
    source.run("save", "-o", str(saved), name)
    assert f"Loaded image: {name}" in text(target, "load", "-i", str(saved))
    assert image_id(target, name) == image_id(source, name)
    shown = [text(engine, "run", "--rm", name, "sh", "-c", SHOW) for engine in (source, target)]
    assert shown[0] == shown[1]
    assert shown[0].startswith("made\nimport\n1000000\n")
    back = tmp_path / "back.tar"
    target.run("save", "-o", str(back), name)
    source.run("rmi", name)
    source.run("load", "-i", str(back))
    assert image_id(source, name) == image_id(target, name)


def test_podman_takes_ours_and_we_take_podmans(engines: dict[str, peers.Peer], tmp_path: Path) -> None:
    if not shutil.which("podman"):
        pytest.skip("no podman here")
    ours = engines["windlass"]
    ours.run("import", "-", "localhost/pod:1", stdin=busybox_root())
    saved, again = tmp_path / "saved.tar", tmp_path / "again.tar"
    ours.run("save", "-o", str(saved), "localhost/pod:1")
    runroot = tempfile.mkdtemp(prefix="wl-")  # podman wants a short one
    podman = ["podman", "--root", tmp_path / "pod", "--runroot", runroot, "--storage-driver", "vfs"]

    def run(*words: str | Path) -> str:
        done = subprocess.run([*podman, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("load", "-i", saved)
    theirs = run("inspect", "--format", "{{.Id}}", "localhost/pod:1").strip()
    assert f"sha256:{theirs}" == image_id(ours, "localhost/pod:1")
    run("save", "--format", "docker-archive", "-o", again, "localhost/pod:1")
    run("rmi", "-a")
    shutil.rmtree(runroot)
    before = image_id(ours, "localhost/pod:1")
    ours.run("rmi", "localhost/pod:1")
    ours.run("load", "-i", str(again))
    assert image_id(ours, "localhost/pod:1") == before


def test_the_archive_is_an_oci_layout_and_a_docker_archive(engines: dict[str, peers.Peer], tmp_path: Path) -> None:
    ours = engines["windlass"]
    ours.run("import", "-", "both:1", stdin=busybox_root())
    saved = tmp_path / "saved.tar"
    ours.run("save", "-o", str(saved), "both:1")
    with tarfile.open(saved) as opened:
        names = set(opened.getnames())
        file = opened.extractfile("manifest.json")
        assert file is not None
        entry = json.load(file)[0]
    assert {"oci-layout", "index.json", "manifest.json", "repositories", entry["Config"], *entry["Layers"]} <= names

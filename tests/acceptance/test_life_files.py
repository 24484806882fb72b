"""What a container sees of the disk, and what its owner sees of it: mounts, shared namespaces, copies, commits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from support.dockercli import Docker
from support.engine import ApiError, PrivateEngine
from support.lives import IMAGE, Lives, ended

pytestmark = pytest.mark.usefixtures("busybox")


def archive(entries: dict[str, bytes | str]) -> bytes:
    """A tar with files (bytes), links (text) and directories (names that end with a slash)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        for name, content in entries.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                made.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                made.addfile(member)
            else:
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    return target.getvalue()


def get(engine: PrivateEngine, container: str, path: str) -> dict[str, bytes | None]:
    """What the archive of a path holds: names, and the contents of files."""
    data = engine.call("GET", f"/containers/{container}/archive?path={quote(path)}")
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        return {
            member.name: (file.read() if (file := made.extractfile(member)) else None) if member.isfile() else None
            for member in made
        }


def put(engine: PrivateEngine, container: str, path: str, entries: dict[str, bytes | str], options: str = "") -> None:
    engine.call("PUT", f"/containers/{container}/archive?path={quote(path)}{options}", archive(entries))


# -- mounts


def test_binds_by_their_options(lives: Lives, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    said = lives.say(
        "cat /b/file; echo in > /b/made; echo no > /r/x; cat /one; ls /made-up",
        Binds=[f"{tmp_path}:/b", f"{tmp_path}:/r:ro", f"{tmp_path}/file:/one", f"{tmp_path}/absent:/made-up"],
    )
    assert said.count("of the host\n") == 2 and "Read-only file system" in said
    assert (tmp_path / "made").read_text() == "in\n"
    assert (tmp_path / "absent").is_dir()


def test_mounts_by_their_types(engine: PrivateEngine, lives: Lives, tmp_path: Path) -> None:
    mounts = [
        {"Type": "bind", "Source": str(tmp_path), "Target": "/b", "ReadOnly": True},
        {"Type": "volume", "Source": "data", "Target": "/v", "VolumeOptions": {"Labels": {"x": "y"}}},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
        {"Type": "image", "Source": IMAGE, "Target": "/i"},
    ]
    said = lives.say(
        "exec 2>&1; touch /b/x /i/x; touch /v/x && stat -c %a /t && "
        "df -k /t | tail -1 | awk '{print $2}'; ls /i/bin | head -1",
        Mounts=mounts,
    )
    assert said.count("Read-only file system") == 2
    assert "700\n1024\n" in said
    assert engine.json("GET", "/volumes/data")["Labels"] == {"x": "y"}
    with pytest.raises(ApiError, match="bind source path does not exist: /no/such/place"):
        lives.create("true", Mounts=[{"Type": "bind", "Source": "/no/such/place", "Target": "/b"}])
    with pytest.raises(ApiError, match="Duplicate mount point: /b"):
        lives.create("true", Binds=["data:/b"], Mounts=[{"Type": "tmpfs", "Target": "/b"}])


def test_a_subpath_of_a_volume_stays_in_it(engine: PrivateEngine, lives: Lives) -> None:
    lives.say("mkdir /v/sub; echo x > /v/sub/file; ln -s / /v/out", Binds=["data:/v"])
    mount = {"Type": "volume", "Source": "data", "Target": "/s", "VolumeOptions": {"Subpath": "sub"}}
    assert lives.say("ls /s", Mounts=[mount]) == "file\n"
    container = lives.create("true", Mounts=[mount | {"VolumeOptions": {"Subpath": "out/etc"}}])
    with pytest.raises(ApiError):
        engine.call("POST", f"/containers/{container}/start")


def test_volumes_come_from_others_and_from_the_image(engine: PrivateEngine, lives: Lives) -> None:
    donor = lives.create("true", Binds=["data:/data"], body={"Volumes": {"/etc": {}, "/new": {}}})
    taker = lives.create("sh", "-c", "cat /etc/passwd; touch /new/x", VolumesFrom=[f"{donor}:ro"])
    assert {mount["Destination"]: mount["RW"] for mount in lives.inspect(taker)["Mounts"]} == {
        "/data": False, "/etc": False, "/new": False,
    }  # fmt: skip
    engine.call("POST", f"/containers/{taker}/start")
    lives.until(taker, ended)
    assert lives.logs(taker).startswith("root:x:0:0") and "Read-only" in lives.logs(taker)
    with pytest.raises(ApiError, match="volume is in use"):
        engine.call("DELETE", "/volumes/data")


def test_read_only_with_places_to_write(lives: Lives) -> None:
    said = lives.say(
        "touch /x; touch /run/x /v/x && echo written; mount | grep ' /run '",
        ReadonlyRootfs=True, Tmpfs={"/run": "size=1m,noexec"}, Binds=["data:/v"],
    )  # fmt: skip
    assert "touch: /x: Read-only file system" in said and "written" in said and "noexec" in said


# -- namespaces shared


def test_namespaces_of_others(engine: PrivateEngine, lives: Lives) -> None:
    donor = lives.run("sleep", "600", name="donor", IpcMode="shareable", NetworkMode="bridge")
    address = lives.execute(donor, "hostname -i")
    said = lives.say(
        "hostname -i; hostname; pidof sleep; echo shared > /dev/shm/x",
        NetworkMode="container:donor", PidMode="container:donor", IpcMode="container:donor",
    )  # fmt: skip
    assert said == f"{address}{donor[:12]}\n1\n"
    assert lives.execute(donor, "cat /dev/shm/x") == "shared\n"
    plain = lives.run("sleep", "600")
    with pytest.raises(ApiError, match="non-shareable IPC"):
        lives.run("true", IpcMode=f"container:{plain}")
    engine.call("POST", f"/containers/{plain}/kill")
    lives.until(plain, ended)
    with pytest.raises(ApiError, match="cannot join network namespace of a non running container"):
        lives.run("true", NetworkMode=f"container:{plain}")
    with pytest.raises(ApiError, match="conflicting options: hostname and the network mode"):
        lives.create("true", NetworkMode="container:donor", body={"Hostname": "x"})


def test_namespaces_of_the_host(lives: Lives) -> None:
    said = lives.say(
        "for kind in net ipc pid uts; do readlink /proc/self/ns/$kind; done",
        NetworkMode="host", IpcMode="host", PidMode="host", UTSMode="host",
    )  # fmt: skip
    assert said.split() == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "ipc", "pid", "uts")]


# -- copies


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_files_in_and_out(engine: PrivateEngine, lives: Lives, running: bool) -> None:
    container = lives.create("sleep", "600", Binds=["data:/data"])
    if running:
        engine.call("POST", f"/containers/{container}/start")
    put(engine, container, "/data", {"sub/": b"", "sub/file": b"content", "sub/link": "file"})
    put(engine, container, "/root", {"mine": b"1"})
    assert get(engine, container, "/data/sub") == {"sub": None, "sub/file": b"content", "sub/link": None}
    assert get(engine, container, "/data/sub/.") == {".": None, "./file": b"content", "./link": None}
    assert get(engine, container, "/data/sub/link") == {"link": None}
    assert get(engine, container, "/root/mine") == {"mine": b"1"}
    with pytest.raises(ApiError, match=f"Could not find the file /nothing in container {container}") as absent:
        get(engine, container, "/nothing")
    assert absent.value.status == 404
    with pytest.raises(ApiError, match="extraction point is not a directory"):
        put(engine, container, "/root/mine", {"x": b""})
    with pytest.raises(ApiError, match='cannot overwrite directory "/sub" with non-directory'):
        put(engine, container, "/data", {"sub": b""}, "&noOverwriteDirNonDir=1")
    if not running:
        engine.call("POST", f"/containers/{container}/start")
    assert lives.execute(container, "cat /data/sub/link /root/mine") == "content1"


def test_links_of_a_container_lead_nowhere_else(engine: PrivateEngine, lives: Lives, tmp_path: Path) -> None:
    """A hostile tree: links to the host's places, exchanged while we copy."""
    victim = tmp_path / "victim"
    victim.mkdir()
    target = f"../../../../../../../../..{victim}"
    script = (
        f"mkdir -p /real; ln -s {victim} /abs; ln -s {target} /rel; "
        f"while :; do ln -sfn {victim} /swap; ln -sfn /real /swap; done"
    )
    container = lives.run("sh", "-c", script)
    lives.execute(container, "while [ ! -L /swap ]; do :; done")
    for path in ("/abs", "/rel"):
        with pytest.raises(ApiError, match="Could not find the file"):
            put(engine, container, path, {"hit": b"x"})
    for _ in range(50):
        with contextlib.suppress(ApiError):  # whatever was there at that moment
            put(engine, container, "/swap", {"hit": b"x", "deep/": b"", "deep/er": b"x"})
            get(engine, container, "/swap/")
    engine.call("POST", f"/containers/{container}/kill")
    lives.until(container, ended)
    for path in ("/abs", "/rel"):
        with pytest.raises(ApiError, match="Could not find the file"):
            put(engine, container, path, {"hit": b"x"})
    assert list(victim.iterdir()) == []


def test_read_only_places_take_no_copies(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "600", ReadonlyRootfs=True, Binds=["data:/ro:ro", "more:/rw"])
    with pytest.raises(ApiError, match="container rootfs is marked read-only"):
        put(engine, container, "/root", {"x": b""})
    with pytest.raises(ApiError, match="mounted volume is marked read-only"):
        put(engine, container, "/ro", {"x": b""})
    put(engine, container, "/rw", {"x": b"1"})
    engine.call("POST", f"/containers/{container}/kill")
    lives.until(container, ended)
    with pytest.raises(ApiError, match="container rootfs is marked read-only"):
        put(engine, container, "/root", {"x": b""})
    assert get(engine, container, "/rw/x") == {"x": b"1"}


def test_copies_belong_to_whom_they_should(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "600", body={"User": "7:8"})
    put(engine, container, "/tmp", {"kept": b""})
    put(engine, container, "/tmp", {"given": b""}, "&copyUIDGID=1")
    assert lives.execute(container, "stat -c %u:%g /tmp/kept /tmp/given") == "0:0\n7:8\n"


# -- changes, export, commit


def test_changes_export_and_commit(engine: PrivateEngine, lives: Lives, docker: Docker) -> None:
    container = lives.run("sh", "-c", "echo made > /root/made; rm /etc/group; sleep 600", Binds=["data:/data"])
    lives.execute(container, "while [ -e /etc/group ]; do :; done; touch /data/not-ours")
    changes = {change["Path"]: change["Kind"] for change in engine.json("GET", f"/containers/{container}/changes")}
    assert changes["/root/made"] == 1 and changes["/etc/group"] == 2 and changes["/etc"] == 0
    with tarfile.open(fileobj=io.BytesIO(engine.call("GET", f"/containers/{container}/export"))) as exported:
        names = exported.getnames()
    assert "root/made" in names and "etc/group" not in names and "data/not-ours" not in names and "bin/sh" in names
    docker("commit", "-a", "somebody", "-m", "why", "-c", "CMD cat /root/made", "-c", "ENV A=b", container, "made:one")
    assert lives.inspect(container)["State"]["Status"] == "running"
    assert docker("run", "--rm", "--network=none", "made:one").stdout == "made\n"
    image = json.loads(docker("image", "inspect", "made:one").stdout)[0]
    assert (image["Author"], image["Comment"], image["Config"]["Env"][-1]) == ("somebody", "why", "A=b")
    docker("rmi", "made:one")


def test_a_stopped_container_can_be_committed_and_goes_on(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "echo x >> /count; cat /count")
    lives.until(container, ended)
    image = engine.json("POST", f"/commit?container={container}")["Id"]
    engine.call("POST", f"/containers/{container}/start")
    lives.until(container, ended)
    assert lives.logs(container) == "x\nx\nx\n"
    engine.call("DELETE", f"/images/{image}")


def test_sizes(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "dd if=/dev/zero of=/big bs=1000 count=100; sleep 600")
    lives.until_said(container, "100+0 records out")
    found = engine.json("GET", f"/containers/{container}/json?size=1")
    assert found["SizeRw"] == 100_000 and found["SizeRootFs"] > 1_000_000
    [listed] = engine.json("GET", "/containers/json?size=1")
    assert listed["SizeRw"] == 100_000
    usage = engine.json("GET", "/system/df")
    assert usage["Containers"][0]["SizeRw"] == 100_000 and usage["Images"][0]["Containers"] == 1

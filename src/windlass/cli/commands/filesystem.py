"""`cp`, `diff`, `export`, `commit`."""

from __future__ import annotations

import base64
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from windlass.cli.client import ApiError, segment
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.streams import write_all

# Bits of Go's os.FileMode, which the stat header carries.
_GO_DIRECTORY, _GO_LINK = 1 << 31, 1 << 27


def split_path(text: str) -> tuple[str, str]:
    """`container:path` as a pair; ("", path) for a path of this machine, which may be written ./a:b or /a:b."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


def run_cp(options: Options) -> int:
    """`windlass cp`."""
    (source_container, source), (target_container, target) = (split_path(text) for text in options.args)
    if source_container and target_container:
        raise ValueError("copying between containers is not supported")
    if not source_container and not target_container:
        raise ValueError("must specify at least one container source")
    if source_container:
        return _copy_out(options, source_container, source, target)
    return _copy_in(options, source, target_container, target)


def _stat(options: Options, container: str, path: str) -> dict[str, Any] | None:
    url = f"/containers/{segment(container)}/archive"
    try:
        response = options.client.request("HEAD", url, query={"path": path}, new=True)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    found: dict[str, Any] = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
    return found


def _copy_out(options: Options, container: str, source: str, target: str) -> int:
    if options.follow_link:
        found = _stat(options, container, source)
        if found and found["mode"] & _GO_LINK:
            link = found["linkTarget"]
            source = link if link.startswith("/") else os.path.join(os.path.dirname(source), link)
    url = f"/containers/{segment(container)}/archive"
    response = options.client.request("GET", url, query={"path": source}, new=True)
    if target == "-":
        for chunk in response.chunks():
            write_all(1, chunk)
        return 0
    stat = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
    is_directory = bool(stat["mode"] & _GO_DIRECTORY)
    if not os.path.isdir(os.path.dirname(os.path.abspath(target.rstrip("/")))):
        raise ValueError(f'invalid output path: directory "{os.path.dirname(os.path.abspath(target))}" does not exist')
    with tarfile.open(fileobj=cast(BinaryIO, _Reader(response.chunks())), mode="r|") as archive:
        _unpack(archive, stat["name"], source, target, is_directory, options.archive)
    _say(options, f"Successfully copied {stat['size']}B to {os.path.abspath(target)}")
    return 0


def _unpack(archive: tarfile.TarFile, name: str, source: str, target: str, directory: bool, keep_owner: bool) -> None:
    """Write the members; the first step of their names is what the copy is called here."""
    exists = os.path.isdir(target)
    if directory and os.path.exists(target) and not exists:
        raise ValueError("cannot copy directory")
    if target.endswith("/") and not exists and not directory:
        raise ValueError(f"the destination directory must exist: {target}")
    contents = directory and (source.endswith("/.") or not exists)
    base = target if exists and not contents else os.path.dirname(os.path.abspath(target.rstrip("/"))) or "/"
    rename = os.path.basename(os.path.abspath(target.rstrip("/")))
    if contents and exists:
        base, rename = target, "."

    def renamed(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        if not exists or contents:
            first, slash, rest = member.name.partition("/")
            if first == name.strip("/") or first == ".":
                member = member.replace(name=f"{rename}{slash}{rest}", deep=False)
        # A copy never leaves the directory it was asked into, whatever the archive says.
        return tarfile.tar_filter(member, path)

    archive.extraction_filter = renamed
    for member in archive:
        archive.extract(member, base, set_attrs=True, numeric_owner=keep_owner)


class _Reader:
    """Chunks as a file that tarfile can read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""

    def read(self, size: int = -1) -> bytes:
        parts = [self._buffer]
        length = len(self._buffer)
        while size < 0 or length < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            length += len(chunk)
        data = b"".join(parts)
        if size < 0:
            self._buffer = b""
            return data
        self._buffer = data[size:]
        return data[:size]


def _copy_in(options: Options, source: str, container: str, target: str) -> int:
    url = f"/containers/{segment(container)}/archive"
    if source == "-":
        query: dict[str, Any] = {"path": target, "noOverwriteDirNonDir": True, "copyUIDGID": options.archive or None}
        options.client.request("PUT", url, query=query, body=_pieces(sys.stdin.buffer), headers=_TAR, new=True).read()
        return 0
    path = os.path.realpath(source) if options.follow_link else source
    if not os.path.lexists(path):
        raise ValueError(f"lstat {os.path.abspath(path)}: no such file or directory")
    is_directory = os.path.isdir(path) and (not os.path.islink(path.rstrip("/")) or path.endswith("/"))
    name = os.path.basename(os.path.abspath(path))
    into, called = _destination(options, container, target, name, is_directory, path.endswith("/."))
    query = {"path": into, "noOverwriteDirNonDir": True, "copyUIDGID": options.archive or None}
    body = _archive(path, called, keep_owner=options.archive)
    options.client.request("PUT", url, query=query, body=body, headers=_TAR, new=True).read()
    _say(options, f"Successfully copied to {container}:{target}")
    return 0


_TAR = {"Content-Type": "application/x-tar"}


def _destination(
    options: Options, container: str, target: str, name: str, is_directory: bool, contents: bool
) -> tuple[str, str]:
    """(directory of the container to unpack into, name of the copy there), by docker's table of cases."""
    found = _stat(options, container, target)
    for _ in range(10):
        if not found or not found["mode"] & _GO_LINK:
            break
        link = found["linkTarget"]
        target = link if link.startswith("/") else os.path.join(os.path.dirname(target), link)
        found = _stat(options, container, target)
    if found and found["mode"] & _GO_DIRECTORY:
        return target, "." if contents else name
    if found:
        if is_directory:
            raise ValueError("cannot copy directory")
        return os.path.dirname(target) or "/", os.path.basename(target)
    if target.endswith("/") and not is_directory:
        raise ValueError(f"no such directory: {container}:{target}")
    stripped = target.rstrip("/")
    return os.path.dirname(stripped) or "/", os.path.basename(stripped)


def _archive(path: str, name: str, *, keep_owner: bool) -> Iterator[bytes]:
    """A tar of `path` called `name`, piece by piece; links stay links."""

    def owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not keep_owner:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
        return member

    reading, writing = os.pipe()
    import threading

    def write() -> None:
        with (
            os.fdopen(writing, "wb") as pipe,
            tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(path.removesuffix("/.") or "/", name, filter=owner)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        yield from _pieces(pipe)
    thread.join()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(1 << 18):
        yield data


def _say(options: Options, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr)


def run_diff(options: Options) -> int:
    """`windlass diff`."""
    for change in options.client.json("GET", f"/containers/{segment(options.args[0])}/changes") or ():
        print("CAD"[change["Kind"]], change["Path"])
    return 0


def run_export(options: Options) -> int:
    """`windlass export`."""
    if not options.output and os.isatty(1):
        raise ValueError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    response = options.client.request("GET", f"/containers/{segment(options.args[0])}/export", new=True)
    save_to(options.output, response.chunks())
    return 0


def save_to(path: str, chunks: Iterator[bytes]) -> None:
    """Write a stream to standard output, or to a file that appears only when it is whole."""
    if not path:
        for chunk in chunks:
            write_all(1, chunk)
        return
    temporary = os.path.join(os.path.dirname(os.path.abspath(path)), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with open(temporary, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def run_commit(options: Options) -> int:
    """`windlass commit`."""
    from windlass.cli.commands.images import split_reference

    container, *reference = options.args
    name, tag = split_reference(reference[0]) if reference else ("", "")
    query = {
        "container": container,
        "repo": name or None,
        "tag": tag or None,
        "comment": options.message or None,
        "author": options.author or None,
        "changes": options.change or None,
        "pause": options.pause and not options.no_pause,
    }
    print(options.client.json("POST", "/commit", query=query, body={})["Id"])
    return 0


COMMANDS = {
    "cp": Command(
        "cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n        windlass cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        run_cp,
        (
            Flag("archive", "bool", "Archive mode (copy all uid/gid information)", "a"),
            Flag("follow-link", "bool", "Always follow symbol link in SRC_PATH", "L"),
            Flag("quiet", "bool", "Suppress progress output during copy", "q"),
        ),
        2,
        2,
        aliases="windlass container cp, windlass cp",
        examples="windlass cp site.conf web:/etc/\nwindlass cp web:/var/log - | tar -t",
    ),
    "diff": Command(
        "diff",
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        run_diff,
        (),
        1,
        1,
        aliases="windlass container diff, windlass diff",
    ),
    "export": Command(
        "export",
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        run_export,
        (Flag("output", "string", "Write to a file, instead of STDOUT", "o"),),
        1,
        1,
        aliases="windlass container export, windlass export",
    ),
    "commit": Command(
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        run_commit,
        (
            Flag("author", "string", 'Author (e.g., "Ada Lovelace <ada@example.org>")', "a"),
            Flag("change", "list", "Apply Dockerfile instruction to the created image", "c"),
            Flag("message", "string", "Commit message", "m"),
            Flag("pause", "bool", "Pause container during commit", "p", True),
            Flag("no-pause", "bool", "Do not pause the container during commit"),
        ),
        1,
        2,
        aliases="windlass container commit, windlass commit",
        examples='windlass commit -c \'CMD ["httpd", "-f"]\' web team/web:v2',
    ),
}

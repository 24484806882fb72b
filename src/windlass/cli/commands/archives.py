"""`import`, `load`, `save`, `image bootstrap`: images from and to archives."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from windlass.cli.client import segment
from windlass.cli.commands.filesystem import save_to
from windlass.cli.commands.images import split_reference
from windlass.cli.flags import Command, Flag, Options
from windlass.cli.progress import StreamError, show_progress


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file, piece by piece, and closed at its end."""
    with file:
        while data := file.read(1 << 20):
            yield data


def run_import(options: Options) -> int:
    """`windlass import`."""
    source, *reference = options.args
    name, tag = split_reference(reference[0]) if reference else ("", "")
    local = source == "-" or not source.startswith(("http://", "https://"))
    query = {
        "fromSrc": "-" if local else source,
        "repo": name or None,
        "tag": tag or None,
        "message": options.message or None,
        "changes": options.change or None,
        "platform": options.platform or None,
    }
    body = pieces(sys.stdin.buffer if source == "-" else open(source, "rb")) if local else None  # noqa: SIM115
    response = options.client.request("POST", "/images/create", query=query, body=body, new=True)
    return _drawn(response.objects())


def _drawn(messages: Iterator[dict[str, object]], *, quiet: bool = False) -> int:
    try:
        show_progress(messages, quiet=quiet)
    except StreamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run_load(options: Options) -> int:
    """`windlass load`."""
    if not options.input and os.isatty(0):
        raise ValueError("requested load from stdin, but stdin is empty")
    file = open(options.input, "rb") if options.input else sys.stdin.buffer  # noqa: SIM115 - closed by pieces
    query = {"quiet": options.quiet or not sys.stdout.isatty(), "platform": options.platform or None}
    headers = {"Content-Type": "application/x-tar"}
    response = options.client.request("POST", "/images/load", query=query, body=pieces(file), headers=headers, new=True)
    return _drawn(response.objects())


def run_save(options: Options) -> int:
    """`windlass save`."""
    if not options.output and os.isatty(1):
        raise ValueError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if len(options.args) == 1:
        path, query = f"/images/{segment(options.args[0])}/get", {"platform": options.platform or None}
    else:
        path, query = "/images/get", {"names": options.args, "platform": options.platform or None}
    save_to(options.output, options.client.request("GET", path, query=query, new=True).chunks())
    return 0


def run_bootstrap(options: Options) -> int:
    """`windlass image bootstrap`."""
    import asyncio

    import windlass.images.bootstrap as bootstrap

    kind = options.args[0] if options.args else "busybox"
    if kind not in bootstrap.KINDS:
        raise ValueError(f"unknown base image: {kind} (one of {', '.join(bootstrap.KINDS)})")
    name, tag = split_reference(options.tag or kind)
    archive, changes = asyncio.run(bootstrap.build(kind))
    query = {"fromSrc": "-", "repo": name, "tag": tag, "message": f"bootstrap {kind}", "changes": changes}
    response = options.client.request("POST", "/images/create", query=query, body=pieces(archive), new=True)
    return _drawn(response.objects())


_PLATFORM = Flag("platform", "string", "Only the given platform of a multi-platform image (os/arch[/variant])")
COMMANDS = {
    "import": Command(
        "import",
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        run_import,
        (
            Flag("change", "list", "Apply Dockerfile instruction to the created image", "c"),
            Flag("message", "string", "Set commit message for imported image", "m"),
            _PLATFORM,
        ),
        1,
        2,
        aliases="windlass image import, windlass import",
        examples="windlass import root.tar.zst base:v1\nmmdebstrap bookworm | windlass import - debian:bookworm",
    ),
    "load": Command(
        "load",
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        run_load,
        (
            Flag("input", "string", "Read from tar archive file, instead of STDIN", "i"),
            _PLATFORM,
            Flag("quiet", "bool", "Suppress the load output", "q"),
        ),
        aliases="windlass image load, windlass load",
        examples="windlass load -i images.tar\nwindlass load < images.tar.gz",
    ),
    "save": Command(
        "save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        run_save,
        (Flag("output", "string", "Write to a file, instead of STDOUT", "o"), _PLATFORM),
        1,
        None,
        aliases="windlass image save, windlass save",
    ),
    "bootstrap": Command(
        "bootstrap",
        "[OPTIONS] [busybox|debian]",
        "Make a small base image on a machine without a registry",
        run_bootstrap,
        (Flag("tag", "string", "Name of the image (default: the kind, with tag latest)", "t"),),
        0,
        1,
        examples="windlass image bootstrap busybox\nwindlass image bootstrap debian --tag base:bookworm",
    ),
}

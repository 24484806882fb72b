"""Templates, tables, sizes, durations and progress: what people and scripts read."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.cli import units
from windlass.cli.commands.ps import format_ports
from windlass.cli.progress import Progress, StreamError
from windlass.cli.streams import Demultiplexer, Detached, EscapeFilter, parse_detach_keys
from windlass.cli.tables import format_table
from windlass.cli.templates import Template, TemplateError

DATA: dict[str, Any] = {
    "Name": "/web",
    "State": {"Running": True, "Pid": 12, "Health": None},
    "Config": {"Labels": {"a.b": "c"}, "Env": ["A=1", "B=2"]},
    "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
    "Size": 1.5,
    "Label": lambda key: f"<{key}>",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "/web"),
        ("{{.State.Running}} {{.State.Pid}}", "true 12"),
        ('{{index .Config.Labels "a.b"}}', "c"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/x /y "),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}};{{end}}", "0=/x;1=/y;"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if eq .State.Pid 13}}a{{else if eq .State.Pid 12}}b{{else}}c{{end}}", "b"),
        ("{{with .State.Health}}{{.Status}}{{else}}none{{end}}", "none"),
        ('{{join .Config.Env ","}} {{len .Config.Env}}', "A=1,B=2 2"),
        ("{{.Name | upper}}", "/WEB"),
        ('{{printf "%.3s" .Name}}', "/we"),
        ('{{.Label "k"}}', "<k>"),
        ("{{$x := .Name}}{{$x}}", "/web"),
        ("a {{- .Name -}} b", "a/webb"),
        ('{{or .State.Health "x"}} {{not false}}', "x true"),
        ("{{.Config.Labels}}", "map[a.b:c]"),
        ("{{(index .Mounts 1).Source}}", "/y"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(
    "template", ["{{.Nope}}", "{{.Name.X}}", "{{nope}}", "{{", "{{end}}", "{{if .Name}}", "{{index .Mounts 9}}"]
)
def test_wrong_templates_are_errors(template: str) -> None:
    with pytest.raises(TemplateError):
        Template(template).render(DATA)


@given(st.text(alphabet='{}.|$:="` abcfinrge()jsonlen0123', max_size=40))
def test_any_template_renders_or_is_refused(text: str) -> None:
    try:
        Template(text).render(DATA)
    except TemplateError:
        pass


@pytest.mark.parametrize(
    ("text", "value"), [("64m", 64 << 20), ("1.5g", 3 << 29), ("10", 10), ("2KiB", 2048), ("1 kb", 1024)]
)
def test_sizes_in(text: str, value: int) -> None:
    assert units.parse_bytes(text) == value


@pytest.mark.parametrize(("value", "text"), [(0, "0B"), (999, "999B"), (4_260_000, "4.26MB"), (1_000_000_000, "1GB")])
def test_sizes_out(value: int, text: str) -> None:
    assert units.human_size(value) == text


@pytest.mark.parametrize(("text", "seconds"), [("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("0", 0), ("-2s", -2)])
def test_durations_in(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds * 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (21 * 86400, "3 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_out(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_ports_are_joined_into_ranges() -> None:
    ports = [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 81, "PublicPort": 8081, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
    ]
    assert format_ports(ports) == "[::]:53->53/udp, 0.0.0.0:8080-8081->80-81/tcp, 443/tcp"


def test_tables_line_up() -> None:
    assert format_table(["A", "LONG"], [["xxx", "1"], ["y", ""]]) == "A     LONG\nxxx   1\ny     \n"


@pytest.mark.parametrize(("text", "keys"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("a,ctrl-@", b"a\x00"), ("", b"\x10\x11")])
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


def test_detach_keys_are_taken_out_and_their_beginnings_are_not() -> None:
    typed = EscapeFilter(b"\x10\x11")
    assert typed.feed(b"ab\x10") == b"ab"
    assert typed.feed(b"c") == b"\x10c"
    with pytest.raises(Detached):
        typed.feed(b"\x10\x11")


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), st.integers(1, 20))
def test_frames_come_apart_however_they_are_cut(frames: list[tuple[int, bytes]], step: int) -> None:
    out, err = bytearray(), bytearray()
    demultiplexer = Demultiplexer(out.extend, err.extend)
    data = b"".join(bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for stream, text in frames)
    for start in range(0, len(data), step):
        demultiplexer.feed(data[start : start + step])
    assert bytes(out) == b"".join(text for stream, text in frames if stream == 1)
    assert bytes(err) == b"".join(text for stream, text in frames if stream == 2)


def test_progress_in_a_log_says_each_change_once() -> None:
    out = io.StringIO()
    progress = Progress(out)
    for message in (
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 9}},
        {"status": "Pull complete", "id": "abc", "progressDetail": {}},
        {"status": "Pull complete", "id": "abc", "progressDetail": {}},
        {"status": "Digest: sha256:1"},
    ):
        progress.show(message)
    assert out.getvalue() == "latest: Pulling from library/x\nabc: Pull complete\nDigest: sha256:1\n"
    with pytest.raises(StreamError, match="denied"):
        progress.show({"errorDetail": {"message": "denied"}, "error": "denied"})

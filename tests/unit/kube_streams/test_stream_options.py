"""What a query asks for, of a log and of a command's streams."""

from __future__ import annotations

import pytest

from windlass.kube.api.request import Options
from windlass.kube.api.status import StatusError
from windlass.kube.streams.options import LogOptions, Wanted, log_options, wanted_of_client, wanted_of_server


def options(**values: str) -> Options:
    return Options(list(values.items()))


def test_a_log_is_asked_for_as_it_was_asked() -> None:
    found = log_options(
        options(container="c", follow="true", tailLines="5", sinceTime="2026-01-02T03:04:05Z", limitBytes="9"), "p"
    )
    assert found == LogOptions(container="c", follow=True, tail=5, limit=9, since=1767323045.0)
    assert log_options(Options(found.query()), "p") == LogOptions(follow=True, tail=5, limit=9, since=1767323045.0)
    assert log_options(options(), "p").query() == [("stream", "All")]
    assert log_options(options(previous="", sinceSeconds="3"), "p") == LogOptions(previous=True, since_seconds=3)


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"tailLines": "-1"}, 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"sinceSeconds": "1", "sinceTime": "2026-01-02T03:04:05Z"},
            422,
            ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ({"stream": "x"}, 422, 'stream: Unsupported value: "x": supported values: "All", "Stderr", "Stdout"'),
        ({"tailLines": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"sinceTime": "now"}, 400, 'cannot parse "now" as "2006"'),
    ],
)
def test_what_cannot_be_asked_of_a_log_is_refused(values: dict[str, str], code: int, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        log_options(options(**values), "p")
    assert refused.value.code == code and refused.value.message.endswith(message)


def test_streams_are_those_asked_for_and_a_terminal_has_one_output() -> None:
    asked = options(stdin="true", stdout="true", stderr="true", tty="true")
    found = wanted_of_client(asked)
    assert found == Wanted(stdin=True, stdout=True, tty=True)
    assert wanted_of_server(Options(found.query())) == found
    with pytest.raises(StatusError, match="at least 1 of stdin, stdout, stderr"):
        wanted_of_client(options(tty="true", stderr="true"))

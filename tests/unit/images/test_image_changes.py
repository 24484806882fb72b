"""Dockerfile instructions on an image's configuration, as `import` and `commit` take them: strictly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.images.changes import apply_changes

SECOND = 10**9

GOOD: list[tuple[list[str], dict[str, Any]]] = [
    (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
    (["CMD a  b | c"], {"Cmd": ["/bin/sh", "-c", "a  b | c"]}),
    (["cmd a"], {"Cmd": ["/bin/sh", "-c", "a"]}),
    (['CMD ["not json'], {"Cmd": ["/bin/sh", "-c", '["not json']}),
    (['SHELL ["/bin/ash", "-ec"]', "CMD a"], {"Shell": ["/bin/ash", "-ec"], "Cmd": ["/bin/ash", "-ec", "a"]}),
    (['ENTRYPOINT ["/e"]'], {"Entrypoint": ["/e"]}),
    (["ENTRYPOINT e f"], {"Entrypoint": ["/bin/sh", "-c", "e f"]}),
    (["ENV A=b C='d e' F=g\\ h"], {"Env": ["A=b", "C=d e", "F=g h"]}),
    (["ENV A b c"], {"Env": ["A=b c"]}),
    (["ENV A=1", "ENV A=2 B="], {"Env": ["A=2", "B="]}),
    (['LABEL a=b "c d"="e f"'], {"Labels": {"a": "b", "c d": "e f"}}),
    (["EXPOSE 80 53/udp 81-82/tcp"], {"ExposedPorts": {k: {} for k in ("80/tcp", "53/udp", "81/tcp", "82/tcp")}}),
    (["USER 1000:1000"], {"User": "1000:1000"}),
    (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
    (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
    (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
    (["WORKDIR a"], {"WorkingDir": "/a"}),
    (["STOPSIGNAL SIGTERM"], {"StopSignal": "SIGTERM"}),
    (["STOPSIGNAL 9"], {"StopSignal": "9"}),
    (["ONBUILD RUN x", "ONBUILD COPY . /"], {"OnBuild": ["RUN x", "COPY . /"]}),
    (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
    (["HEALTHCHECK CMD x y"], {"Healthcheck": {"Test": ["CMD-SHELL", "x y"]}}),
    (
        ['HEALTHCHECK --interval=1m30s --timeout=5s --retries=3 --start-period=1s --start-interval=2s CMD ["x"]'],
        {
            "Healthcheck": {
                "Test": ["CMD", "x"],
                "Interval": 90 * SECOND,
                "Timeout": 5 * SECOND,
                "Retries": 3,
                "StartPeriod": SECOND,
                "StartInterval": 2 * SECOND,
            }
        },
    ),
    (["# a comment", "", "USER x"], {"User": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), GOOD, ids=lambda value: str(value)[:50])
def test_what_instructions_do(changes: list[str], expected: dict[str, Any]) -> None:
    assert apply_changes({}, changes) == expected


BAD = [
    "FROM x",
    "RUN x",
    "COPY a b",
    "ADD a b",
    "ARG a",
    "MAINTAINER me",
    "NONSENSE x",
    "ENV",
    "ENV A",
    "ENV =b",
    "ENV A=b C",
    "LABEL",
    "LABEL a",
    "EXPOSE",
    "EXPOSE x",
    "EXPOSE 80/icmp",
    "EXPOSE 70000",
    "EXPOSE 0-70000",
    "EXPOSE 90-80",
    "USER",
    "USER a b",
    "VOLUME",
    'VOLUME [""]',
    "WORKDIR",
    "STOPSIGNAL",
    "STOPSIGNAL NOSUCH",
    "STOPSIGNAL 99",
    "SHELL",
    "SHELL /bin/sh",
    "SHELL []",
    "ONBUILD",
    "ONBUILD ONBUILD RUN x",
    "ONBUILD FROM x",
    "ONBUILD MAINTAINER x",
    "HEALTHCHECK",
    "HEALTHCHECK x",
    "HEALTHCHECK CMD",
    "HEALTHCHECK NONE x",
    "HEALTHCHECK --interval=x CMD x",
    "HEALTHCHECK --interval=10us CMD x",
    "HEALTHCHECK --retries=-1 CMD x",
    "HEALTHCHECK --unknown=1 CMD x",
    "CMD",
]


@pytest.mark.parametrize("change", BAD)
def test_what_is_refused(change: str) -> None:
    before = {"Env": ["A=1"]}
    with pytest.raises(InvalidParameter):
        apply_changes(before, [change])
    assert before == {"Env": ["A=1"]}


def test_several_in_one_text_and_continued_lines() -> None:
    assert apply_changes({}, ["USER a\nENV B=c"]) == {"User": "a", "Env": ["B=c"]}
    assert apply_changes({}, ["ENV A=1 \\\n B=2"]) == {"Env": ["A=1", "B=2"]}


def test_what_is_there_stays() -> None:
    before = {"Cmd": ["x"], "Labels": {"a": "1"}, "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/v": {}}}
    after = apply_changes(before, ["LABEL b=2", "EXPOSE 2", "VOLUME /w", "CMD y"])
    assert after["Labels"] == {"a": "1", "b": "2"}
    assert set(after["ExposedPorts"]) == {"1/tcp", "2/tcp"}
    assert set(after["Volumes"]) == {"/v", "/w"}
    assert before["Labels"] == {"a": "1"}


@given(
    st.lists(st.text(max_size=60), max_size=3),
    st.sampled_from(["", "ENV ", "LABEL ", "HEALTHCHECK ", "EXPOSE ", "CMD "]),
)
def test_no_text_is_more_than_an_error(texts: list[str], prefix: str) -> None:
    try:
        apply_changes({}, [prefix + text for text in texts])
    except InvalidParameter:
        pass

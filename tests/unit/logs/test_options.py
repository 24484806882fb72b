"""What `--log-opt` accepts and what it answers, in dockerd's words."""

from __future__ import annotations

import pytest

from windlass.errors import InvalidParameter
from windlass.logs.options import extra_attributes, file_settings, parse_size, validate_options


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("json-file", {"max-sizes": "1m"}, "unknown log opt 'max-sizes' for json-file log driver"),
        ("local", {"gelf": "1"}, "unknown log opt 'gelf' for log driver local"),
        ("fluffy", {}, "logger: no log driver named 'fluffy' is registered"),
        ("json-file", {"mode": "lazy"}, "logger: logging mode not supported: lazy"),
        (
            "json-file",
            {"max-buffer-size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "json-file",
            {"mode": "non-blocking", "max-buffer-size": "x"},
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
        ("local", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
    ],
)
def test_bad_options_are_refused_at_creation(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        validate_options(driver, options)
    assert str(error.value) == message


def test_good_options_pass() -> None:
    validate_options("json-file", {"max-size": "1m", "max-file": "3", "labels": "a", "tag": "x", "mode": "blocking"})
    validate_options("local", {"compress": "false", "mode": "non-blocking", "max-buffer-size": "4m"})
    validate_options("none", {"whatever": "is ignored"})


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("json-file", {"max-size": "10x"}, "invalid suffix: 'x'"),
        ("json-file", {"max-size": "-1"}, "invalid size: '-1'"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "two"}, 'strconv.Atoi: parsing "two": invalid syntax'),
        ("json-file", {"compress": "yes"}, 'strconv.ParseBool: parsing "yes": invalid syntax'),
        (
            "json-file",
            {"compress": "true", "max-size": "1m"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("local", {"max-size": "big"}, "invalid value for max-size: big: invalid size: 'big'"),
        ("local", {"max-file": "x"}, 'invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax'),
        (
            "local",
            {"compress": "2"},
            'invalid boolean value for compress: strconv.ParseBool: parsing "2": invalid syntax',
        ),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("local", {"max-file": "-1", "compress": "0"}, "max-file must not be negative"),
    ],
)
def test_bad_values_are_refused(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        file_settings(driver, options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("json-file", {}, (20_000_000, 5, False)),
        ("json-file", {"max-size": "10k"}, (10_000, 1, False)),
        ("json-file", {"max-file": "3"}, (20_000_000, 3, False)),
        ("json-file", {"max-size": "1m", "max-file": "2", "compress": "t"}, (1_000_000, 2, True)),
        ("local", {}, (20_000_000, 5, True)),
        ("local", {"max-file": "1", "compress": "false", "max-size": "0"}, (1, 1, False)),
    ],
)
def test_limits(driver: str, options: dict[str, str], expected: tuple[int, int, bool]) -> None:
    settings = file_settings(driver, options)
    assert (settings.max_size, settings.max_files, settings.compress) == expected


@pytest.mark.parametrize(
    ("text", "binary", "expected"),
    [
        ("32", False, 32),
        ("32b", False, 32),
        ("32k", False, 32_000),
        ("32kB", True, 32 * 1024),
        ("32 kib", True, 32 * 1024),
        ("1.5M", False, 1_500_000),
        ("1G", True, 1 << 30),
        ("0.3 K", False, 300),
    ],
)
def test_sizes(text: str, binary: bool, expected: int) -> None:
    assert parse_size(text, binary=binary) == expected


@pytest.mark.parametrize(
    "text", ["", "hello", ".3kB", " 32", "32 mb ", "32m b", "32bm", "1e999", "9999999e", "nan", "1_0"]
)
def test_bad_sizes(text: str) -> None:
    if text == ".3kB":  # a float may begin with its point
        assert parse_size(text) == 300
        return
    with pytest.raises(InvalidParameter):
        parse_size(text)


def test_attributes_come_from_labels_environment_and_tag() -> None:
    found = extra_attributes(
        {"labels": "a,missing", "labels-regex": "^com\\.", "env": "HOME", "env-regex": "^LC_"},
        labels={"a": "1", "b": "2", "com.x": "3"},
        env=["HOME=/", "LC_ALL=C", "PATH=/bin", "broken"],
        tag="web",
    )
    assert found == {"a": "1", "com.x": "3", "HOME": "/", "LC_ALL": "C", "tag": "web"}
    with pytest.raises(InvalidParameter):
        extra_attributes({"labels-regex": "("}, labels={}, env=[])

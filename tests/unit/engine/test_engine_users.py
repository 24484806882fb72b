"""Users and groups by the image's own files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.users import Account, AccountFiles, resolve
from windlass.errors import InvalidParameter

FILES = AccountFiles(
    passwd=b"# comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:33:33:www:/var/www:/bin\nodd:x:99999999999:1::/:\n\nx\n",
    group=b"root:x:0:\nwheel:x:10:root,web\nwww:x:33:\naudio:x:27:web\nbroken\n",
)


@pytest.mark.parametrize(
    ("user", "additional", "account"),
    [
        ("", (), Account(0, 0, (0, 10), "/root")),
        ("root", (), Account(0, 0, (0, 10), "/root")),
        ("web", (), Account(33, 33, (33, 10, 27), "/var/www")),
        ("33", (), Account(33, 33, (33, 10, 27), "/var/www")),
        ("web:audio", (), Account(33, 27, (27,), "/var/www")),
        ("web:1234", (), Account(33, 1234, (1234,), "/var/www")),
        ("1000", (), Account(1000, 0, (0,), "/")),
        ("1000:1000", (), Account(1000, 1000, (1000,), "/")),
        (":27", (), Account(0, 27, (27,), "/root")),
        ("1000", ("audio", "555"), Account(1000, 0, (0, 27, 555), "/")),
        ("web", ("audio",), Account(33, 33, (33, 10, 27), "/var/www")),
    ],
)
def test_who_runs(user: str, additional: tuple[str, ...], account: Account) -> None:
    assert resolve(user, additional, FILES) == account


@pytest.mark.parametrize(
    ("user", "additional", "message"),
    [
        ("nobodyhere", (), "unable to find user nobodyhere: no matching entries in passwd file"),
        ("web:nogroup", (), "unable to find group nogroup: no matching entries in group file"),
        ("web", ("nogroup",), "unable to find group nogroup"),
        ("4294967296", (), "uids and gids must be in range 0-2147483647"),
        ("-1", (), "uids and gids must be in range"),
        ("0:2147483648", (), "uids and gids must be in range"),
        ("99999999999999999999999999", (), "uids and gids must be in range"),
        ("odd", (), "unable to find user odd"),
    ],
)
def test_who_is_not_there(user: str, additional: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        resolve(user, additional, FILES)
    assert message in str(refused.value)


def test_an_image_without_files_knows_numbers_only() -> None:
    assert resolve("", (), AccountFiles()) == Account(0, 0, (0,), "/")
    assert resolve("7:8", ("9",), AccountFiles()) == Account(7, 8, (8, 9), "/")
    with pytest.raises(InvalidParameter):
        resolve("root", (), AccountFiles())


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=12))
def test_hostile_files_give_numbers_in_range_or_an_error(passwd: bytes, group: bytes, user: str) -> None:
    try:
        account = resolve(user, (), AccountFiles(passwd, group))
    except InvalidParameter:
        return
    assert all(0 <= number <= 0x7FFFFFFF for number in (account.uid, account.gid, *account.groups))

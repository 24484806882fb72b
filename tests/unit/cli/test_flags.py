"""The grammar of the command line is that of docker's flags."""

from __future__ import annotations

import pytest

from windlass.cli.client import Client
from windlass.cli.commands.create_flags import RUN_FLAGS
from windlass.cli.flags import Command, Flag, HelpWanted, Options, UsageError, help_text, parse


def nobody() -> Client:
    raise AssertionError("no engine is asked for a line")


RUN = Command("run", "IMAGE [COMMAND]", "Run", lambda options: 0, RUN_FLAGS, 1, None, interspersed=False)
STOP = Command("stop", "CONTAINER", "Stop", lambda options: 0, (Flag("timeout", "int", "", "t"),), 1, None)


def run(*words: str) -> Options:
    return parse(RUN, words, nobody)


def test_the_first_argument_ends_the_flags_of_run() -> None:
    options = run("-it", "--rm", "busybox", "ls", "-l", "--rm=false")
    assert options.args == ["busybox", "ls", "-l", "--rm=false"]
    assert options.tty and options.interactive and options.rm


def test_flags_of_other_commands_may_stand_anywhere() -> None:
    options = parse(STOP, ["web", "-t", "3", "db"], nobody)
    assert (options.args, options.timeout) == (["web", "db"], 3)


@pytest.mark.parametrize(
    "words", [["-p80:80"], ["-p", "80:80"], ["-p=80:80"], ["--publish", "80:80"], ["--publish=80:80"]]
)
def test_a_value_may_follow_in_every_way(words: list[str]) -> None:
    assert run(*words, "i").publish == ["80:80"]


def test_switches_take_a_value_only_with_an_equals_sign() -> None:
    options = run("--init=false", "--sig-proxy=0", "--read-only", "true")
    assert (options.init, options.sig_proxy, options.read_only, options.args) == (False, False, True, ["true"])
    assert options.given("init") and not options.given("rm")


def test_a_double_dash_ends_flags() -> None:
    assert parse(STOP, ["--", "-t"], nobody).args == ["-t"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope", "i"], "unknown flag: --nope"),
        (["-y", "i"], "unknown shorthand flag: 'y' in -y"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--cpu-shares", "x", "i"], 'invalid argument "x" for "-c, --cpu-shares" flag'),
        (["-m", "lots", "i"], "invalid size: 'lots'"),
        (["--rm=perhaps", "i"], 'invalid argument "perhaps" for "--rm" flag'),
    ],
)
def test_wrong_lines_say_what_is_wrong(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*words)
    assert message in str(caught.value)
    assert caught.value.code == 125


def test_a_wrong_count_of_arguments_is_an_error_of_its_own() -> None:
    with pytest.raises(UsageError, match="'windlass run' requires at least 1 argument") as caught:
        run("--rm")
    assert caught.value.code == 1


def test_help_is_made_from_the_declaration() -> None:
    with pytest.raises(HelpWanted):
        run("--rm", "--help")
    text = help_text(RUN)
    assert "  -e, --env list" in text
    assert "      --rm  " in text
    assert '(default "missing")' in text


def test_h_is_the_hostname_for_run_and_help_elsewhere() -> None:
    assert run("-h", "ship", "i").hostname == "ship"
    with pytest.raises(HelpWanted):
        parse(STOP, ["-h"], nobody)

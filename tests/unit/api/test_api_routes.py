"""What the routes ask of the engine and what clients get, over a real socket."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from support.fakeapi import Client, items
from windlass import errors
from windlass.api.docker.app import DockerAPI
from windlass.api.docker.backend import RegistryAuth


async def test_ping_and_the_headers_that_clients_negotiate_by(api: Client) -> None:
    for method in ("GET", "HEAD"):
        answer = await api(method, "/_ping")
        assert answer.status == 200
        assert answer.body == (b"OK" if method == "GET" else b"")
        wanted = {
            "api-version": "1.51",
            "docker-experimental": "false",
            "ostype": "linux",
            "server": "Docker/28.5.2 (linux)",
            "builder-version": "1",
            "swarm": "inactive",
            "pragma": "no-cache",
        }
        assert wanted.items() <= answer.headers.items()


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.51"])
async def test_paths_mean_the_same_with_and_without_a_version(api: Client, prefix: str) -> None:
    api.engine.answers["container_list"] = []
    assert await api.json("GET", f"{prefix}/containers/json?all=1") == (200, [])
    assert api.engine.last[2]["all"] is True


async def test_versions_that_we_do_not_speak(api: Client) -> None:
    assert await api.json("GET", "/v1.99/info") == (
        400,
        {"message": "client version 1.99 is too new. Maximum supported API version is 1.51"},
    )
    old = await api("GET", "/v1.18/info")
    assert old.status == 400
    assert old.headers["content-type"].startswith("text/plain")
    assert old.body.startswith(b"client version 1.18 is too old.")


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("PATCH", "/info"), ("GET", "/v1.51/nope/x")])
async def test_unknown_pages(api: Client, method: str, path: str) -> None:
    assert await api.json(method, path) == (404, {"message": "page not found"})


async def test_unclean_paths_are_redirected(api: Client) -> None:
    answer = await api("GET", "/v1.51//containers/./json?all=1")
    assert (answer.status, answer.headers["location"]) == (301, "/v1.51/containers/json?all=1")


async def test_options_is_allowed_everywhere(api: Client) -> None:
    assert (await api("OPTIONS", "/anything")).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("No such container: x"), 404),
        (errors.InvalidParameter("bad"), 400),
        (errors.Conflict("taken"), 409),
        (errors.Unauthorized("who"), 401),
        (errors.Forbidden("no"), 403),
        (errors.NotImplementedByEngine("later"), 501),
        (errors.Unavailable("away"), 503),
        (errors.SystemFailure("broken"), 500),
    ],
)
async def test_errors_have_their_status_and_a_message(api: Client, error: Exception, status: int) -> None:
    api.engine.answers["container_inspect"] = error
    assert await api.json("GET", "/containers/x/json") == (status, {"message": str(error)})


async def test_not_modified_has_no_body(api: Client) -> None:
    api.engine.answers["container_start"] = errors.NotModified("already started")
    answer = await api("POST", "/containers/x/start")
    assert (answer.status, answer.body) == (304, b"")


async def test_a_full_disk_is_said_in_words(api: Client) -> None:
    api.engine.answers["container_inspect"] = OSError(28, "No space left on device", "/var/lib/x")
    assert await api.json("GET", "/containers/x/json") == (
        500,
        {"message": "/var/lib/x: no space left on device"},
    )


async def test_create_reads_only_json(api: Client) -> None:
    api.engine.answers["container_create"] = {"Id": "abc", "Warnings": []}
    post = "POST"
    body = b'{"Image": "busybox"}'
    assert await api.json(post, "/containers/create?name=web", body) == (201, {"Id": "abc", "Warnings": []})
    assert api.engine.last[2]["name"] == "web"
    assert api.engine.last[2]["body"]["Image"] == "busybox"
    path = "/containers/create"
    for data, field, message in (
        (body, "Content-Type: text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{", "X: y", "invalid JSON: unexpected EOF"),
        (b"[]", "X: y", "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest"),
        (b"{} {}", "X: y", "unexpected content after JSON"),
    ):
        assert await api.json(post, path, data, field) == (400, {"message": message})
    assert await api.json(post, path) == (400, {"message": "invalid JSON: got EOF while reading request body"})
    chunked = ("Transfer-Encoding: chunked",)
    assert await api.json(post, path, b"0\r\n\r\n", *chunked) == (
        400,
        {"message": "invalid JSON: got EOF while reading request body"},
    )


async def test_an_oversized_body_is_refused_before_it_is_read(api: Client) -> None:
    reader, writer = await api.open()
    writer.write(
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 999999999\r\n\r\n"
    )
    assert b" 413 " in await reader.readline()
    assert b'{"message":"http: request body too large"}' in await reader.read()


async def test_start_takes_no_body(api: Client) -> None:
    assert (await api("POST", "/containers/web/start", b"{}")).status == 204
    status, document = await api.json("POST", "/containers/web/start", b'{"Binds": []}')
    assert status == 400
    assert document["message"].startswith("starting container with non-empty request body was deprecated")


async def test_kill_says_whom_it_could_not_kill(api: Client) -> None:
    api.engine.answers["container_kill"] = errors.NotFound("No such container: x")
    assert await api.json("POST", "/containers/x/kill") == (
        404,
        {"message": "cannot kill container: x: No such container: x"},
    )


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("h=24&w=80", 200, None),
        ("h=24", 400, 'invalid resize width "": invalid syntax'),
        ("h=-1&w=80", 400, 'invalid resize height "-1": value out of range'),
        ("h=4294967296&w=80", 400, 'invalid resize height "4294967296": value out of range'),
        ("h=a&w=80", 400, 'invalid resize height "a": invalid syntax'),
    ],
)
async def test_resize_reads_sizes_as_dockerd_does(api: Client, query: str, status: int, message: str | None) -> None:
    for path in ("/containers/web/resize", "/exec/e/resize"):
        assert await api.json("POST", f"{path}?{query}") == (status, message and {"message": message})


async def test_stop_hands_over_signal_and_time_from_1_42_on(api: Client) -> None:
    await api("POST", "/v1.51/containers/web/stop?t=-1&signal=SIGINT")
    assert api.engine.last == ("container_stop", ("web",), {"signal": "SIGINT", "timeout": -1})
    await api("POST", "/v1.41/containers/web/stop?signal=SIGINT")
    assert api.engine.last == ("container_stop", ("web",), {"signal": "", "timeout": None})
    assert (await api.json("POST", "/containers/web/stop?t=soon"))[1] == {
        "message": 'strconv.Atoi: parsing "soon": invalid syntax'
    }


async def test_unknown_filters_are_refused(api: Client) -> None:
    query = "?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D"
    for path in ("/containers/json", "/images/json", "/networks", "/events"):
        assert await api.json("GET", path + query) == (400, {"message": "invalid filter 'colour'"})
    assert (await api.json("GET", "/volumes" + query))[1] == {
        "message": "error reading volume filters: invalid filter 'colour'"
    }


async def test_old_list_parameters_become_filters(api: Client) -> None:
    api.engine.answers["container_list"] = []
    await api("GET", "/containers/json?since=abc&limit=3&size=true&all=false")
    assert api.engine.last[2] == {"all": False, "limit": 3, "size": True, "filters": {"since": ["abc"]}}


async def test_older_clients_get_older_shapes(api: Client) -> None:
    image = {"Id": "sha256:1", "Size": 5, "RepoTags": [], "RepoDigests": [], "Containers": 2, "Descriptor": {}}
    api.engine.answers["image_list"] = lambda **_: [dict(image)]
    assert (await api.json("GET", "/v1.51/images/json"))[1] == [image]
    old = (await api.json("GET", "/v1.41/images/json"))[1][0]
    assert old == {
        "Id": "sha256:1",
        "Size": 5,
        "VirtualSize": 5,
        "RepoTags": ["<none>:<none>"],
        "RepoDigests": ["<none>@<none>"],
        "Containers": -1,
    }
    api.engine.answers["system_info"] = lambda: {
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "Runtimes": {"r": {"path": "r", "status": {}}},
        "RuncCommit": {"ID": "x"},
        "FirewallBackend": {"Driver": "nftables"},
    }
    old = (await api.json("GET", "/v1.24/info"))[1]
    assert old["SecurityOptions"] == ["seccomp"]
    assert old["Runtimes"] == {"r": {"path": "r"}}
    assert old["RuncCommit"] == {"ID": "x", "Expected": "x"}
    assert "FirewallBackend" not in old
    assert (await api.json("GET", "/info"))[1]["FirewallBackend"] == {"Driver": "nftables"}


async def test_inspected_images_carry_the_fields_that_clients_expect(api: Client) -> None:
    api.engine.answers["image_inspect"] = lambda *_, **__: {"Id": "sha256:1", "Size": 5, "Config": {"Cmd": ["sh"]}}
    new = (await api.json("GET", "/images/a/b:1/json"))[1]
    assert api.engine.last[1] == ("a/b:1",)
    assert new["Config"]["Cmd"] == ["sh"]
    assert new["Config"]["Env"] is None
    assert "Hostname" not in new["Config"]
    old = (await api.json("GET", "/v1.43/images/a/json"))[1]
    assert old["Config"]["Hostname"] == ""
    assert old["VirtualSize"] == 5


async def test_pull_hands_over_names_and_credentials(api: Client) -> None:
    api.engine.answers["image_create"] = lambda **_: items({"status": "Pulling"}, {"status": "done"})
    auth = base64.urlsafe_b64encode(orjson.dumps({"username": "u", "password": "p"})).decode()
    answer = await api("POST", "/images/create?fromImage=a/b&tag=1", None, f"X-Registry-Auth: {auth}")
    assert answer.body == b'{"status":"Pulling"}\r\n{"status":"done"}\r\n'
    asked = api.engine.last[2]
    assert (asked["from_image"], asked["tag"], asked["auth"]) == ("a/b", "1", RegistryAuth("u", "p"))


async def test_import_hands_over_the_body(api: Client) -> None:
    taken: list[bytes] = []

    async def image_create(**asked: Any) -> Any:
        async for piece in asked["body"]:
            taken.append(piece)
        return items({"status": asked["message"]})

    api.engine.answers["image_create"] = image_create
    answer = await api(
        "POST", "/images/create?fromSrc=-&repo=r&changes=CMD+a&changes=ENV+b", b"tar", "Content-Type: application/x-tar"
    )
    assert orjson.loads(answer.body) == {"status": "Imported from -"}
    assert b"".join(taken) == b"tar"
    assert api.engine.last[2]["changes"] == ["CMD a", "ENV b"]


async def test_a_pull_that_fails_at_once_is_a_status_and_later_a_message(api: Client) -> None:
    api.engine.answers["image_create"] = lambda **_: items(errors.NotFound("pull access denied"))
    assert await api.json("POST", "/images/create?fromImage=a") == (404, {"message": "pull access denied"})
    api.engine.answers["image_create"] = lambda **_: items({"status": "x"}, errors.SystemFailure("unexpected EOF"))
    answer = await api("POST", "/images/create?fromImage=a")
    assert answer.status == 200
    assert answer.body.splitlines()[1] == b'{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}'


async def test_load_answers_200_whatever_happens(api: Client) -> None:
    api.engine.answers["image_load"] = errors.InvalidParameter("invalid archive")
    answer = await api("POST", "/images/load", b"junk", "Content-Type: application/x-tar")
    assert answer.status == 200
    assert orjson.loads(answer.body)["error"] == "invalid archive"


async def test_reserved_names_are_refused(api: Client) -> None:
    assert await api.json("POST", "/images/create?fromImage=scratch") == (
        403,
        {"message": "'scratch' is a reserved name"},
    )


async def test_platforms_are_checked(api: Client) -> None:
    for text, message in (
        ("{", "failed to parse platform: "),
        ("{}", "both OS and Architecture must be provided"),
        ('{"variant":"v8"}', "optional platform fields provided, but OS and Architecture are missing"),
    ):
        status, document = await api.json(
            "GET", f"/images/a/history?platform={text.replace('{', '%7B').replace('}', '%7D')}"
        )
        assert status == 400
        assert document["message"].startswith(message)


async def test_archives_have_their_stat_in_a_header(api: Client) -> None:
    stat = {"name": "f", "size": 1, "mode": 420, "mtime": "2024-01-01T00:00:00Z", "linkTarget": ""}
    api.engine.answers["container_archive_info"] = stat
    answer = await api("HEAD", "/containers/web/archive?path=/f")
    assert orjson.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"])) == stat
    api.engine.answers["container_archive"] = lambda *_, **__: (stat, items(b"tar", b"data"))
    answer = await api("GET", "/containers/web/archive?path=/f")
    assert (answer.headers["content-type"], answer.body) == ("application/x-tar", b"tardata")
    assert await api.json("GET", "/containers/web/archive") == (400, {"message": "bad parameter: pathcannot be empty"})


async def test_events_have_old_and_new_names_and_hide_new_kinds_from_old_clients(api: Client) -> None:
    event = {
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_000_000_000,
    }
    created = {**event, "Type": "image", "Action": "create"}
    api.engine.answers["system_events"] = lambda **_: items(event, created)
    answer = await api("GET", "/events?since=1.5&until=2")
    assert api.engine.last[2] == {"since": 1_500_000_000, "until": 2_000_000_000, "filters": {}}
    lines = [orjson.loads(line) for line in answer.body.splitlines()]
    assert lines[0] == {**event, "status": "start", "id": "abc", "from": "busybox"}
    assert len(lines) == 2
    old = await api("GET", "/v1.45/events")
    assert len(old.body.splitlines()) == 1
    status, document = await api.json("GET", "/events?since=5&until=2")
    assert (status, document["message"]) == (400, "`since` time (5) cannot be after `until` time (2)")


async def test_an_engine_without_swarm_plugins_and_builder_says_so(api: Client) -> None:
    for path in ("/swarm", "/services", "/nodes/x", "/tasks", "/secrets/x", "/configs", "/swarm/unlockkey"):
        status, document = await api.json("GET", path)
        assert status == 503
        assert document["message"].startswith("This node is not a swarm manager.")
    assert await api.json("POST", "/swarm/leave") == (503, {"message": "This node is not part of a swarm"})
    assert (await api.json("POST", "/services/create", {"Name": "x"}))[0] == 503
    assert await api.json("GET", "/plugins") == (200, [])
    assert await api.json("GET", "/plugins/a/b/json") == (404, {"message": 'plugin "a/b" not found'})
    assert (await api.json("POST", "/build?t=x", b"context" * 1000, "Content-Type: application/x-tar"))[0] == 501
    assert (await api.json("POST", "/build/prune"))[1] == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert (await api.json("POST", "/session"))[0] == 501
    assert (await api.json("GET", "/containers/web/checkpoints"))[0] == 501
    assert (await api.json("PUT", "/volumes/v?version=1", {}))[0] == 503


async def test_volume_prune_of_older_clients_includes_named_ones(api: Client) -> None:
    api.engine.answers["volume_prune"] = {}
    await api("POST", "/v1.41/volumes/prune")
    assert api.engine.last[2] == {"filters": {"all": ["true"]}}
    await api("POST", "/v1.42/volumes/prune")
    assert api.engine.last[2] == {"filters": {}}


def test_every_operation_of_the_published_document_has_a_route() -> None:
    """Method and path of API 1.51, from its own table of contents."""
    api = DockerAPI(None)  # type: ignore[arg-type]
    missing = [line for line in OPERATIONS.split("\n") if line and not api._router.find(*line.split(" "))]
    assert not missing
    assert len(OPERATIONS.strip().split("\n")) == 107


OPERATIONS = """
POST /auth
GET /info
GET /version
GET /_ping
HEAD /_ping
GET /events
GET /system/df
GET /containers/json
POST /containers/create
GET /containers/x/json
GET /containers/x/top
GET /containers/x/logs
GET /containers/x/changes
GET /containers/x/export
GET /containers/x/stats
POST /containers/x/resize
POST /containers/x/start
POST /containers/x/stop
POST /containers/x/restart
POST /containers/x/kill
POST /containers/x/update
POST /containers/x/rename
POST /containers/x/pause
POST /containers/x/unpause
POST /containers/x/attach
GET /containers/x/attach/ws
POST /containers/x/wait
DELETE /containers/x
HEAD /containers/x/archive
GET /containers/x/archive
PUT /containers/x/archive
POST /containers/prune
POST /containers/x/exec
POST /exec/x/start
POST /exec/x/resize
GET /exec/x/json
GET /images/json
POST /build
POST /build/prune
POST /images/create
GET /images/x/json
GET /images/x/history
POST /images/x/push
POST /images/x/tag
DELETE /images/x
GET /images/search
POST /images/prune
POST /commit
GET /images/x/get
GET /images/get
POST /images/load
GET /distribution/x/json
POST /session
GET /networks
GET /networks/x
DELETE /networks/x
POST /networks/create
POST /networks/x/connect
POST /networks/x/disconnect
POST /networks/prune
GET /volumes
POST /volumes/create
GET /volumes/x
PUT /volumes/x
DELETE /volumes/x
POST /volumes/prune
GET /swarm
POST /swarm/init
POST /swarm/join
POST /swarm/leave
POST /swarm/update
GET /swarm/unlockkey
POST /swarm/unlock
GET /nodes
GET /nodes/x
DELETE /nodes/x
POST /nodes/x/update
GET /services
POST /services/create
GET /services/x
DELETE /services/x
POST /services/x/update
GET /services/x/logs
GET /tasks
GET /tasks/x
GET /tasks/x/logs
GET /secrets
POST /secrets/create
GET /secrets/x
DELETE /secrets/x
POST /secrets/x/update
GET /configs
POST /configs/create
GET /configs/x
DELETE /configs/x
POST /configs/x/update
GET /plugins
GET /plugins/privileges
POST /plugins/pull
GET /plugins/x/json
DELETE /plugins/x
POST /plugins/x/enable
POST /plugins/x/disable
POST /plugins/x/upgrade
POST /plugins/create
POST /plugins/x/push
POST /plugins/x/set
"""

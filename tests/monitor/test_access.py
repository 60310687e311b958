"""Who can see a page, and who can act."""

from __future__ import annotations

import os
import stat
from urllib.parse import quote

import pytest
from monitor_harness import ACT, SEE, TOKENS, client_of, pages_of, umask, watch_of

from fsqueue.errors import ConfigError
from fsqueue.monitor.access import HEADERS, Tokens, kept_token
from fsqueue.monitor.sockets import default_socket, listen_on_port, listen_on_socket

EVERYWHERE = ["/", "/calls", "/api/v1/overview", "/events?page=/", "/static/monitor.css"]
FORM = {"form": TOKENS.form, "queue": "shop.default"}


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("token", ["", "wrong", SEE[:-1], f"{SEE}x", "é"])
def test_without_the_token_nothing_is_shown(shop, path, token):
    watch = watch_of(shop.root)
    client = client_of(shop.root, "", watch=watch)
    if token:
        client.headers["Cookie"] = f"fsqueue-{watch.store.files.info.id}={quote(token)}"
    for answer in (client.get(path), client.get(path, params={"token": token})):
        assert answer.status_code == 403
        assert "fsqueue monitor" in answer.text
        assert "shop" not in answer.text


def test_health_is_told_to_everybody_on_this_host(shop):
    assert client_of(shop.root, "").get("/healthz").text == "ok\n"


def test_the_token_of_the_link_becomes_a_cookie_and_leaves_the_address(shop):
    client = client_of(shop.root, "")
    answer = client.get("/failures", params={"token": SEE, "window": "6h"})
    assert (answer.status_code, answer.headers["location"]) == (303, "./failures?window=6h")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert client.get("/failures").status_code == 200
    assert client_of(shop.root, "").get("/", headers={"Authorization": f"Bearer {SEE}"}).is_success


def test_the_cookie_of_a_former_start_does_not_hide_a_valid_token(shop):
    headers = {"Authorization": f"Bearer {SEE}"}
    assert client_of(shop.root, "o" * 43).get("/", headers=headers).is_success
    assert client_of(shop.root).get("/", headers={"Authorization": "Bearer old"}).is_success


def test_the_cookie_is_sent_only_below_the_base_path(shop):
    client = client_of(shop.root, "", base_path="/proxy/8787/")
    cookie = client.get("/proxy/8787/", params={"token": SEE}).headers["set-cookie"]
    assert "Path=/proxy/8787;" in cookie
    assert client.get("/proxy/8787/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "login3", "[::2]", ""])
@pytest.mark.parametrize("path", ["/", "/healthz", "/static/monitor.js"])
def test_a_foreign_host_is_refused(shop, host, path):
    answer = client_of(shop.root).get(path, headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:8787", "LOCALHOST:1"])
def test_the_names_of_this_host_are_ours(shop, host):
    assert client_of(shop.root, "").get("/healthz", headers={"Host": host}).status_code == 200


def test_a_further_host_can_be_allowed(shop):
    client = client_of(shop.root, hosts=("ondemand.example",))
    assert client.get("/healthz", headers={"Host": "ondemand.example"}).status_code == 200


def test_every_answer_has_the_security_headers(shop):
    client, stranger = client_of(shop.root), client_of(shop.root, "")
    answers = [client.get(path) for path in [*pages_of(shop), "/nowhere", "/api/v1/calls"]]
    answers += [stranger.get("/"), client.get("/", headers={"Host": "evil.example"})]
    answers += [client.post("/actions/pause", data=FORM), client.get("/static/monitor.css")]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, answer.url


def acting(shop, token=ACT, **settings):
    return client_of(shop.root, token, actions=True, **settings)


@pytest.mark.parametrize("path", ["/", "/calls", "/failures", "/actions/pause", "/events"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_other_method_is_taken(shop, path, method):
    assert acting(shop).request(method, path).status_code in {403, 405}
    assert client_of(shop.root).request(method, path).status_code in {403, 405}


REFUSED = {
    "no cookie": (403, {"token": ""}, {}, FORM),
    "only the token to see": (403, {"token": SEE}, {}, FORM),
    "no secret of the form": (403, {}, {}, {"queue": "shop.default"}),
    "a wrong secret": (403, {}, {}, {**FORM, "form": "x"}),
    "the token itself": (403, {}, {}, {**FORM, "form": ACT}),
    "another origin": (403, {}, {"Origin": "http://evil.example"}, FORM),
    "another port": (403, {}, {"Origin": "http://127.0.0.1:1"}, FORM),
    "an odd origin": (403, {}, {"Origin": "http://["}, FORM),
    "no origin": (403, {}, {"Origin": "null"}, FORM),
    "another site": (403, {}, {"Sec-Fetch-Site": "cross-site"}, FORM),
    "the same site": (403, {}, {"Sec-Fetch-Site": "same-site", "Origin": "null"}, FORM),
    "no such queue": (400, {}, {}, {**FORM, "queue": "shop.nowhere"}),
    "a path": (400, {}, {}, {**FORM, "queue": "../../etc"}),
    "no such action": (404, {"path": "/actions/_check"}, {}, FORM),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_is_not_from_our_form_changes_nothing(shop, name):
    status, options, headers, form = REFUSED[name]
    client = acting(shop, options.get("token", ACT))
    answer = client.post(options.get("path", "/actions/pause"), data=form, headers=headers)
    assert answer.status_code == status
    queues = client_of(shop.root).get("/api/v1/overview").json()["queues"]
    assert [each["paused"] for each in queues if each["name"] == "shop.default"] in ([], [False])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8787", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},  # of a form, without a referrer
    ],
)
def test_a_form_of_ours_is_taken(shop, headers):
    form = {**FORM, "queue": "shop.archive"}  # it is paused
    answer = acting(shop).post("/actions/pause", data=form, headers=headers)
    assert answer.status_code == 200
    assert "already paused (fsqueue pause shop.archive)" in answer.text
    script = acting(shop).post(
        "/actions/pause", data={"queue": "shop.archive"}, headers={"X-Fsqueue-Token": TOKENS.form}
    )
    assert script.status_code == 200


def test_without_actions_there_is_no_second_token(shop):
    assert Tokens.fresh(actions=False).act == ""
    assert Tokens("see", "").rights("") == ""
    client = client_of(shop.root, ACT)  # the server can be asked, but opens nothing
    assert client.post("/actions/pause", data=FORM).status_code == 403


def test_pages_have_forms_only_with_the_token_to_act(shop):
    for path in pages_of(shop):
        assert '<form class="act"' not in acting(shop, SEE).get(path).text
    assert '<form class="act"' in acting(shop).get("/").text
    assert acting(shop, SEE).get("/confirm/purge?queue=shop.archive").status_code == 404


# -- sockets --------------------------------------------------------------------------------


def test_the_socket_is_private_whatever_the_umask(tmp_path):
    path = tmp_path / "new" / "shop.sock"
    with umask(0), listen_on_socket(str(path)):
        assert stat.S_IMODE(os.lstat(path).st_mode) & 0o077 == 0
        assert stat.S_IMODE(os.lstat(path.parent).st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="that nobody else can enter"):
        listen_on_socket(str(tmp_path / "shop.sock"))


def test_a_socket_that_somebody_listens_on_is_not_taken_away(tmp_path):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "shop.sock")
    with listen_on_socket(path) as first:
        first.listen()
        with pytest.raises(ConfigError, match="another monitor"):
            listen_on_socket(path)
    with listen_on_socket(path) as again:  # its monitor was killed
        assert again.getsockname() == path


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").write_text("results")
    with pytest.raises(ConfigError, match="is not a socket"):
        listen_on_socket("precious")
    assert (tmp_path / "precious").read_text() == "results"
    with listen_on_socket("shop.sock") as found:
        assert found.getsockname() == str(tmp_path / "shop.sock")


def test_only_this_host_can_connect_to_the_port():
    with listen_on_port(0) as found:
        host, port = found.getsockname()
        assert host == "127.0.0.1"
        found.listen()
        with pytest.raises(ConfigError, match=f"port {port}"):
            listen_on_port(port)


def test_the_socket_is_in_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_socket("shop") == f"{tmp_path}/fsqueue/shop.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert f"fsqueue-{os.getuid()}/shop.sock" in default_socket("shop")


def test_a_kept_token_is_private(tmp_path):
    path = tmp_path / "token"
    with umask(0):
        first = kept_token(str(path))
    assert len(first) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept_token(str(path)) == first
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        kept_token(str(path))
    path.chmod(0o600)
    for content in (b"short", b"+" * 43, b"two words" * 9, b"\xff\xfe" * 40):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="--token-file"):
            kept_token(str(path))
    with pytest.raises(ConfigError, match="--token-file: cannot make"):
        kept_token(str(tmp_path / "missing" / "token"))

"""Which pages of browsers may ask, and under which names a server answers them."""

from __future__ import annotations

import pytest

from modelengine import errors
from modelengine_api import pages
from modelengine_api.pages import Asked, Policy

CHROME = "Mozilla/5.0 (X11; Linux x86_64)"
HERE = Policy(is_loopback=True)
CLUSTER = Policy(hosts=("chat.example.com", "*.models.example.com"), origins=frozenset({"https://app.example.com"}))


@pytest.mark.parametrize(
    "host", ["localhost:9527", "127.0.0.1:9527", "127.0.0.2", "[::1]:9527", "LOCALHOST.", "a.localhost", ""]
)
def test_a_server_for_this_machine_is_called_by_this_machines_names(host: str) -> None:
    assert HERE.refusal(Asked(host)) is None
    assert HERE.refusal(Asked(host, agent=CHROME)) is None


@pytest.mark.parametrize(
    "host", ["evil.example:9527", "192.168.0.7", "localhost.evil.example", "127.0.0.1.evil.example", "x"]
)
def test_another_name_for_this_machine_is_refused_whoever_uses_it(host: str) -> None:
    refused = HERE.refusal(Asked(host))
    assert refused is not None
    assert "MODELENGINE_ALLOWED_HOSTS" in refused.message
    assert Policy(hosts=(pages.host_name(host) or "",), is_loopback=True).refusal(Asked(host)) is None


@pytest.mark.parametrize("host", ["@localhost", "a@localhost", "localhost/x", "localhost:port", "[::1", "localhost?x"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert HERE.refusal(Asked(host)) is not None
    assert CLUSTER.refusal(Asked(host)) is not None


@pytest.mark.parametrize(
    "host", ["10.0.0.7:9527", "modelengine:9527", "modelengine.home.svc", "chat.example.com", "a.models.example.com"]
)
def test_a_browser_in_a_cluster_may_use_names_that_no_site_can_have_and_those_that_are_configured(host: str) -> None:
    assert CLUSTER.refusal(Asked(host, agent=CHROME)) is None


@pytest.mark.parametrize("browser", [{"agent": CHROME}, {"origin": "http://evil.example"}, {"site": "same-origin"}])
def test_a_site_that_points_its_name_to_the_front_door_reaches_it_by_no_browser(browser: dict[str, str]) -> None:
    for host in ("evil.example", "models.example.com", "evil-chat.example.com"):
        assert CLUSTER.refusal(Asked(host, **browser)) is not None
    assert CLUSTER.refusal(Asked("anything.example", agent="python-httpx2/2.16")) is None


def test_an_origin_must_be_this_server_or_an_allowed_one() -> None:
    def may(origin: str, host: str = "chat.example.com") -> bool:
        return CLUSTER.refusal(Asked(host, origin)) is None

    assert may("https://chat.example.com")
    assert may("http://chat.example.com")
    assert may("https://app.example.com")
    assert may("HTTPS://APP.example.com")
    assert may("http://10.0.0.7:9527", "10.0.0.7:9527")
    for other in (
        "null",
        "http://chat.example.com:8080",
        "https://app.example.com.evil",
        "http://app.example.com",
        "x",
    ):
        assert not may(other)
    assert not may("http://10.0.0.7:3000", "10.0.0.7:9527")


def test_what_another_sites_page_loads_is_refused_and_a_link_is_not() -> None:
    asked = {"host": "10.0.0.7", "site": "cross-site"}
    assert CLUSTER.refusal(Asked(**asked, mode="no-cors")) is not None
    assert CLUSTER.refusal(Asked(**asked, mode="navigate")) is None
    assert CLUSTER.refusal(Asked("10.0.0.7", site="same-origin", mode="cors")) is None


def test_the_policy_is_read_from_the_environment() -> None:
    found = pages.policy(
        {"MODELENGINE_CORS_ORIGINS": "https://A.example, http://b:3000", "MODELENGINE_ALLOWED_HOSTS": "c.example,*.d"},
        "127.0.0.1",
    )
    assert found == Policy(frozenset({"https://a.example", "http://b:3000"}), ("c.example", "*.d"), True)
    assert pages.policy({}, "0.0.0.0") == Policy()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODELENGINE_CORS_ORIGINS", "*"),
        ("MODELENGINE_CORS_ORIGINS", "https://*.example.com"),
        ("MODELENGINE_CORS_ORIGINS", "example.com"),
        ("MODELENGINE_CORS_ORIGINS", "https://example.com/path"),
        ("MODELENGINE_ALLOWED_HOSTS", "*"),
        ("MODELENGINE_ALLOWED_HOSTS", "http://example.com"),
        ("MODELENGINE_ALLOWED_HOSTS", "example.com:80"),
    ],
)
def test_what_can_be_no_origin_or_name_is_refused(name: str, value: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=name):
        pages.policy({name: value}, "127.0.0.1")

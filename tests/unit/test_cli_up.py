"""What `up` hands to its children, as data."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modelengine import errors
from modelengine.cli import parts, up
from modelengine_gateway import keys


def test_the_engine_gets_what_was_asked_for_and_nothing_else() -> None:
    assert up.engine_env(up.Wanted(model="./m", device="cpu", max_context=100)) == {
        "MODELENGINE_MODEL_SOURCE": "./m",
        "MODELENGINE_LISTEN_HOST": "127.0.0.1",
        "MODELENGINE_LISTEN_PORT": "0",
        "MODELENGINE_DEVICE": "cpu",
        "MODELENGINE_MAX_CONTEXT": "100",
        "MODELENGINE_GRACE_S": "30.0",
    }


def test_a_name_server_that_asks_for_keys_is_told_the_hash_of_a_new_one_and_its_clients_the_key() -> None:
    assert (up.own_key({}).for_name_server, up.own_key({}).for_clients) == ({}, {})
    key, other = (up.own_key({"MODELENGINE_API_KEYS": "/keys"}) for _ in range(2))
    assert key.text is not None
    assert key.text != other.text
    assert key.for_clients == {"MODELENGINE_API_KEY": key.text}
    known = keys.entry("own", key.for_name_server["MODELENGINE_OWN_KEY"])
    assert keys.owner([known], key.text) is known
    assert key.text not in str(key.for_name_server)


def test_the_engine_hears_what_its_model_is_asked_for_and_the_hint_is_no_chat_then() -> None:
    wanted = up.Wanted(model="./m", protocol="embed")
    assert up.engine_env(wanted)["MODELENGINE_PROTOCOL"] == "embed"
    assert up.hint(wanted).format(port=9527, name="m") == "try: modelengine ls    stop: Ctrl-C"


def test_the_name_server_gets_its_address() -> None:
    assert up.name_server_env(up.Wanted(host="::1", port=0, log_level="INFO")) == {
        "MODELENGINE_LISTEN_HOST": "::1",
        "MODELENGINE_LISTEN_PORT": "0",
        "MODELENGINE_GRACE_S": "30.0",
        "MODELENGINE_LOG_LEVEL": "INFO",
    }


@pytest.mark.parametrize(("named", "engines"), [(None, None), ("off", None), ("9600", "0"), ("0", "0")])
def test_a_port_for_metrics_is_the_name_server_s_and_engines_take_free_ones(
    named: str | None, engines: str | None
) -> None:
    inherited = {"MODELENGINE_METRICS_PORT": named} if named else {}
    assert up.engine_metrics_env(inherited).get("MODELENGINE_METRICS_PORT") == engines


def test_what_listens_on_all_interfaces_is_reached_on_the_loopback() -> None:
    assert up.Wanted(host="0.0.0.0").reachable_host == "127.0.0.1"
    assert up.Wanted(host="::1").reachable_host == "[::1]"


def test_replicas_are_told_apart_by_number() -> None:
    assert up.engine_titles(up.Wanted()) == ["engine demo"]
    assert up.engine_titles(up.Wanted(engines=2, name="x")) == ["engine x #1", "engine x #2"]
    assert up.engine_titles(up.Wanted(engines=0)) == []


def test_the_hint_names_the_port_only_where_it_is_not_the_usual_one() -> None:
    usual = up.hint(up.Wanted(model="./folder")).format(port=9527, name="folder")
    assert usual == 'try: modelengine run folder "hello"    stop: Ctrl-C'
    assert "--host 127.0.0.1:4000 run x" in up.hint(up.Wanted(port=0)).format(port=4000, name="x")
    assert "--host [::1]:4000 ls" in up.hint(up.Wanted(host="::1", engines=0)).format(port=4000, name="")


def test_a_part_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.NEEDS, "engine", ("no_such_module",))  # type: ignore[misc, unused-ignore]
    with pytest.raises(errors.ModelEngineError, match=r"no_such_module is not installed; pip install 'modelengine\["):
        parts.require("gateway", "engine")


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["run", "--help"], ["version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from modelengine.cli.main import run\n"
        "try:\n    run()\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'httpx2', 'rich', 'prompt_toolkit', 'yaml', 'psutil', 'asyncio', 'fastapi'}\n"
        "    print(end.code, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"

"""What people see when a part dies: real processes, killed."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

import processes
from callers import through
from modelengine import ChatClient, NameServerClient, errors

LONG = [{"role": "user", "content": "count from 1 to 99"}]
# Long enough to be in the middle of when something is killed, whatever the model says.
LONG_OPTIONS = {"max_new_tokens": 900, "temperature": 5.0, "seed": 3}
LEASE_S = 6.0
RENEW_S = 2.0


@pytest.fixture
def port(tmp_path):
    """A front door's port."""
    port = processes.free_port()
    with processes.front_door(tmp_path, port):
        yield port


def wait_for(client, count, timeout_s=120):
    """The services of `demo`, once there are so many."""
    deadline = time.monotonic() + timeout_s
    while len(services := client.get_services("demo") or []) != count:
        assert time.monotonic() < deadline, services
        time.sleep(0.05)
    return services


def test_an_engine_killed_during_a_stream_gives_an_error_and_its_entry_goes_within_the_lease(tmp_path, port):
    with ChatClient(f"127.0.0.1:{port}") as client, processes.engine(tmp_path, port) as engine:
        wait_for(client, 1)
        stream = client.chat("demo", LONG, stream=True, options=LONG_OPTIONS)
        next(stream)
        engine.kill()
        killed_at = time.monotonic()
        with pytest.raises(errors.StreamBroken):
            list(stream)
        wait_for(client, 0, timeout_s=LEASE_S + 1)
        assert time.monotonic() - killed_at < 10


def test_a_dead_engine_is_gone_at_once_whether_the_front_door_or_a_client_meets_it_first(tmp_path, port):
    with ChatClient(f"127.0.0.1:{port}") as client, processes.engine(tmp_path, port) as engine:
        wait_for(client, 1)
        engine.kill()
        with pytest.raises((errors.ConnectionFailed, errors.NotFound)):
            client.chat("demo", LONG)
        assert client.get_services("demo") is None


def test_an_engine_killed_behind_the_front_door_ends_the_relayed_stream_with_an_error(tmp_path, port):
    with ChatClient(f"127.0.0.1:{port}") as client, processes.engine(tmp_path, port) as engine:
        wait_for(client, 1)
        relayed = through(f"127.0.0.1:{port}", client, **LONG_OPTIONS)
        next(relayed)
        engine.kill()
        with pytest.raises(errors.StreamBroken):
            list(relayed)
        wait_for(client, 0, timeout_s=1)


def test_a_name_server_killed_and_restarted_does_not_cut_a_stream_and_is_refilled_within_a_renewal(tmp_path):
    port = processes.free_port()
    with (
        ChatClient(f"127.0.0.1:{port}") as client,
        processes.front_door(tmp_path, port) as first,
        processes.engine(tmp_path, port),
    ):
        wait_for(client, 1)
        stream = client.chat("demo", LONG, stream=True, options=LONG_OPTIONS)
        next(stream)
        first.kill()
        next(stream)
        with pytest.raises(errors.ConnectionFailed):
            client.get_services("demo")
        with processes.front_door(tmp_path, port):
            wait_for(client, 1, timeout_s=RENEW_S + 1)
            assert list(stream)[-1].done


def test_a_wait_outlives_a_restart_of_the_name_server(tmp_path):
    port = processes.free_port()
    found: list = []
    with ChatClient(f"127.0.0.1:{port}") as client:
        waiting = threading.Thread(target=lambda: found.extend(client.wait_service_available("demo", timeout=120)))
        waiting.start()
        with processes.front_door(tmp_path, port) as first, processes.engine(tmp_path, port):
            first.kill()
            with processes.front_door(tmp_path, port):
                waiting.join()
                assert [service.name for service in found] == ["demo"]


def test_two_engines_of_one_name_are_both_listed_and_used_and_one_stops_without_breaking_its_stream(tmp_path, port):
    with (
        ChatClient(f"127.0.0.1:{port}") as client,
        processes.engine(tmp_path, port, 1) as one,
        processes.engine(tmp_path, port, 2, grace_s=60) as two,
    ):
        services = wait_for(client, 2)
        assert len({service.port for service in services}) == 2
        used = {client.info("demo")["pid"] for _ in range(40)}
        assert used == {one.process.pid, two.process.pid}

        one.kill()
        for _ in range(10):
            assert client.chat("demo", LONG, options={"max_new_tokens": 2}).response_length == 2
        wait_for(client, 1, timeout_s=1)

        stream = client.chat("demo", LONG, stream=True, options={**LONG_OPTIONS, "max_new_tokens": 300})
        next(stream)
        stopping = threading.Thread(target=lambda: two.stop(timeout_s=60))
        stopping.start()
        wait_for(client, 0, timeout_s=2)
        assert list(stream)[-1].done
        stopping.join()
        assert two.process.returncode == 0


def test_two_hundred_chats_of_which_half_leave_at_random_leave_nothing_behind(tmp_path, port):
    with ChatClient(f"127.0.0.1:{port}") as client, processes.engine(tmp_path, port) as engine:
        wait_for(client, 1)
        process = psutil.Process(engine.process.pid)

        def chat(i):
            chance = random.Random(i)
            with ChatClient(f"127.0.0.1:{port}") as own:
                stream = own.chat("demo", LONG, stream=True, options={"max_new_tokens": 24, "temperature": 1.0})
                if i % 2:
                    return list(stream)[-1].done
                for _ in range(chance.randrange(8)):
                    next(stream, None)
                stream.close()
                return True

        def burst(numbers):
            with ThreadPoolExecutor(16) as pool:
                assert all(pool.map(chat, numbers))

        # What is made once and kept, buffers and arenas, is made in the first hundred or so; a leak goes on after them.
        burst(range(150))
        memory, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        burst(range(150, 350))
        deadline = time.monotonic() + 1
        while (load := client.info("demo")["load"])["running"] + load["waiting"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (load["running"], load["waiting"], load["failed"]) == (0, 0, 0)
        assert load["aborted"] > 0
        # The client that asks keeps one connection; the rest must be gone.
        assert process.num_fds() <= files + 1
        assert process.num_threads() <= threads
        assert process.memory_info().rss - memory < 30_000_000


def test_a_port_that_is_taken_says_by_whom_and_how_to_choose_another(tmp_path, port):
    second = processes.Server("modelengine_gateway", tmp_path / "second.log", listen_port=port)
    assert second.process.wait(20) == 1
    second.close()
    assert f"port {port}" in second.output
    assert "ModelEngine name server" in second.output
    assert "--port" in second.output


def test_a_model_that_can_not_be_loaded_ends_the_engine_with_one_line_and_no_entry(tmp_path, port):
    with processes.engine(tmp_path, port, model_source=str(tmp_path / "gone"), model_name="demo") as engine:
        assert engine.process.wait(30) == 1
        assert engine.output.strip().splitlines() == [f"error: model folder {tmp_path / 'gone'}: no such folder"]
    with NameServerClient(f"127.0.0.1:{port}") as names:
        assert names.get_service_names("chat") == []


def test_an_engine_ends_when_its_parent_is_gone(tmp_path, port):
    with ChatClient(f"127.0.0.1:{port}") as client, processes.engine(tmp_path, port) as engine:
        wait_for(client, 1)
        assert engine.process.stdin is not None
        engine.process.stdin.close()
        assert engine.process.wait(10) == 0
        assert client.get_services("demo") is None

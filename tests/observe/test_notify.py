import os
import socket
import uuid

import pytest

from spooler.observe.notify import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """The service manager's end of the socket, and its name in the environment."""
    address = str(tmp_path / "notify") if request.param == "file" else f"@spooler-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        end.settimeout(5)
        yield end, address


def test_each_message_arrives_as_systemd_expects_it(manager):
    end, address = manager
    service = ServiceManager.of({"NOTIFY_SOCKET": address})
    assert service.ready("2 devices\nidle")
    assert end.recv(4096) == b"READY=1\nSTATUS=2 devices idle"
    assert service.status("\u00b5 running")
    assert end.recv(4096) == "STATUS=\u00b5 running".encode()
    assert service.alive()
    assert end.recv(4096) == b"WATCHDOG=1"
    assert service.reloading()
    assert end.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert service.stopping()
    assert end.recv(4096) == b"STOPPING=1"
    assert service.extend(1.5)
    assert end.recv(4096) == b"EXTEND_TIMEOUT_USEC=1500000"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path", "/nowhere/at/all", "/\0"])
def test_without_a_listener_nothing_happens(address):
    service = ServiceManager.of({"NOTIFY_SOCKET": address})
    assert service.ready() is False
    assert service.alive() is False


def test_a_manager_that_does_not_listen_is_not_waited_for(manager):
    _, address = manager
    service = ServiceManager.of({"NOTIFY_SOCKET": address})
    assert any(not service.alive() for _ in range(100_000))


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_systemd_means(environ, seconds):
    assert ServiceManager.of(environ).watchdog == seconds

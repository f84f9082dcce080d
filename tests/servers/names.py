"""A name server on this machine, so that `mongodb+srv://` can be tried without a network.

    with NameServer(records) as names, names.asked(): ...      # by this process
    names.environment(folder)                                  # by a Python that is started with it

The host is `cluster.0.0.1`: what an SRV record names must end as the host does, and 127.0.0.1
does, and is an address that no other name server needs to know.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

HOST = "cluster.0.0.1"

#: Has each Python of an environment ask our name server, before anything else runs in it.
_SITE = """\
import dns.resolver
dns.resolver.default_resolver = dns.resolver.Resolver(configure=False)
dns.resolver.default_resolver.nameservers = ["127.0.0.1"]
dns.resolver.default_resolver.port = {port}
"""


def cluster(port: int, options: str = "") -> dict[tuple[str, str], str]:
    """The records of a cluster of one server on this machine."""
    found = {(f"_mongodb._tcp.{HOST}.", "SRV"): f"0 0 {port} 127.0.0.1."}
    return {**found, (f"{HOST}.", "TXT"): f'"{options}"'} if options else found


class NameServer:
    """Answers by UDP what `records` says; of all other names that there are none."""

    def __init__(self, records: dict[tuple[str, str], str]) -> None:
        self.records = records
        #: What was asked for.
        self.questions: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        self._thread.join(5)

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Have this process ask it until the end of the block."""
        before = dns.resolver.default_resolver
        ours = dns.resolver.Resolver(configure=False)
        ours.nameservers, ours.port = ["127.0.0.1"], self.port
        dns.resolver.default_resolver = ours
        try:
            yield
        finally:
            dns.resolver.default_resolver = before

    def environment(self, folder: Path) -> dict[str, str]:
        """What a Python has to be started with to ask it."""
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_SITE.format(port=self.port), encoding="utf-8")
        others = [path for path in [os.environ.get("PYTHONPATH", "")] if path]
        return {"PYTHONPATH": os.pathsep.join([str(folder), *others])}

    def _serve(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(OSError):
                self._socket.sendto(self._answer(data), sender)

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        (question,) = query.question
        asked = (question.name.to_text(), dns.rdatatype.to_text(question.rdtype))
        self.questions.append(asked)
        if (said := self.records.get(asked)) is not None:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", asked[1], said))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

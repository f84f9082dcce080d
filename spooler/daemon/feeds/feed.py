"""One storage as this daemon serves it.

An outage, a full disk or a refused report of one feed never touches another, nor another device
of the same feed.
"""

from __future__ import annotations

from dataclasses import dataclass

from spooler.daemon.claims.leases import Leases
from spooler.daemon.claims.records import Records
from spooler.daemon.claims.returns import Returns
from spooler.daemon.feeds.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.model.claim import Owner
from spooler.protocols import Backend


@dataclass(frozen=True, slots=True)
class Feed:
    """What works on one storage, for all devices that have queues there."""

    name: str
    backend: Backend
    owner: Owner
    outage: Outage
    records: Records
    leases: Leases
    delivery: Delivery
    returns: Returns

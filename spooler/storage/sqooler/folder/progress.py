"""How far a run is, for its submitter: it can never stand in the place of a final status.

A final status is always a file of its own, put at its place by a rename after the claim was
committed. Progress goes into the file that was there before we asked whether the claim is ours:
however long this process stands still before it writes, it writes into that file, which by then
has no name any more.
"""

from __future__ import annotations

from spooler.durable import OpenFile
from spooler.model.claim import Claim
from spooler.model.state import State
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.layout import Layout
from spooler.storage.sqooler.folder.notices import Notices
from spooler.storage.sqooler.rendering import Renderer


class FolderProgress:
    """Writes progress into the statuses of claims."""

    def __init__(
        self, layout: Layout, claims: FolderClaims, renderer: Renderer, notices: Notices
    ) -> None:
        self._layout = layout
        self._claims = claims
        self._renderer = renderer
        self._notices = notices

    def show(self, claim: Claim, text: str) -> None:
        """Show it where there is a status already (the first is the client's)."""
        place = self._layout.status(claim.job.queue, claim.job.id)
        try:
            status = OpenFile(place, writing=True)
        except FileNotFoundError:
            return
        except PermissionError:
            self._notices.warn_once(
                "progress",
                f"{place} cannot be written, so progress is not shown; "
                "give the user that runs spooler access to the files in status/",
            )
            return
        with status:
            # A second name may be somebody's other file.
            if self._claims.holds(claim) and status.names == 1:
                content = self._renderer.status(claim.job.id, State.RUNNING, text)
                status.rewrite(content)

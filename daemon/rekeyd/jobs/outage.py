"""Telling an outage from objects that fail: a store that answers for none of many in a row is out for all."""

from __future__ import annotations

from rekeyd.domain.errors import UnavailableError


class Outage:
    """Counts objects in a row that failed by what passes, over all segments of a job that one process works on.

    Each of them was tried again and again inside. With as many as are in flight at once, and nothing else between
    them, the rest of the listing would only make requests that fail: the job is held, and looked at again.
    """

    def __init__(self, objects_max: int) -> None:
        self._objects_max = objects_max
        self._objects = 0

    def note(self, reason: str | None) -> None:
        """Count an object that failed for this reason; None for any other end, after which they aren't in a row.

        Raises UnavailableError once there are `objects_max`.
        """
        self._objects = 0 if reason is None else self._objects + 1
        if reason is not None and self._objects >= self._objects_max:
            raise UnavailableError("carry", f"{self._objects} objects in a row, the last one: {reason}")

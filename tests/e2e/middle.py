"""A middle to be killed, cancelled or stopped in, however fast the machine: the store is silent about most objects."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote, urlsplit

from rekeyd.domain.objects import OWN_PREFIX, Location
from tests.doubles.weather import Asked, Fault, Forecast

WRITES = ("PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "UploadPartCopy")
DELETES = ("DeleteObject",)
FREE = 20
"""So many objects, the first ones by their keys, get through."""
PATIENT = {"object_attempts_max": 100}
"""Limits under which no object is given up meanwhile."""


def stalls_all_but_a_few(location: Location, keys: Collection[str], operations: Collection[str]) -> Forecast:
    """Stalls these operations on all objects of the location but the first few of these keys, for good."""
    free = set(sorted(keys)[:FREE])
    beginning = f"/{location.bucket}/{location.prefix}"

    def forecast(asked: Asked) -> Fault | None:
        path = unquote(urlsplit(asked.target).path)
        key = path.removeprefix(beginning)
        concerned = asked.operation in operations and path.startswith(beginning)
        return "stalled" if concerned and key not in free and not key.startswith(OWN_PREFIX) else None

    return forecast

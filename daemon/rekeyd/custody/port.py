"""What the rest of rekeyd may ask of a key service."""

from __future__ import annotations

from typing import Protocol

from rekeyd.domain.key import KeyDescription, KmsKey


class Custody(Protocol):
    """A key service. Its answers are as fresh as the service's own: nothing is cached."""

    async def describe(self, key: KmsKey) -> KeyDescription | None:
        """What the service says of the key and of its alias; None where there is no such key.

        Reads only. Raises KeyForbiddenError where we may not look, CustodyError where the service can't be
        reached or gives no sense. One request a call and kind of thing asked; retries are the caller's.
        """

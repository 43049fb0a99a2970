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

    async def disable(self, arn: str) -> str:
        """Switch the key off; one that is off already stays so. Gives the service's name for the request.

        Raises ForeignKeyError where the key is in somebody else's account, KeyForbiddenError where we may not, and
        CustodyError where the service can't be reached, or there is no such key.
        """

    async def enable(self, arn: str) -> str:
        """Switch it on again. Likewise."""

    async def delete_material(self, arn: str) -> str:
        """Delete the key material that was imported into the key: nothing under it can be read any more by anybody.

        Likewise; ForeignKeyError also where the material isn't an imported one, and so not ours to delete.
        """

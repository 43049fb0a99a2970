"""What commands ask of the service, as values: to be made without loading an SDK."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostureRequest:
    """What is to be looked at, and how."""

    reference: str
    role_arn: str = ""
    external_id: str = ""
    alias: str = ""
    data_account: str = ""
    daemon_account: str = ""

"""The signer in AWS KMS."""

from __future__ import annotations

from aiobotocore.session import get_session

from rekeyd.custody.kms_signing import KmsSigner
from rekeyd.custody.signing import Signer
from rekeyd.settings import Settings


def kms_signer(settings: Settings, key_arn: str) -> Signer:
    """As the settings say."""
    return KmsSigner(
        get_session(),
        key_arn,
        endpoint_url=settings.custody.aws.endpoint_url,
        request_seconds_max=settings.limits.request_seconds_max,
        connect_seconds_max=settings.limits.connect_seconds_max,
    )

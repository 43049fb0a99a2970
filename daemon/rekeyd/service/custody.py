"""Keys: AWS KMS in its roles, and the private key for which tenants wrap theirs, as the settings say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import structlog
from aiobotocore.session import get_session

from rekeyd.custody.aws_kms import AwsKms, KmsAccess, KmsRoles
from rekeyd.custody.wrapping import SETTING, PemUnwrapper
from rekeyd.domain.custody import WrappingKey
from rekeyd.domain.errors import CustodyError, RefusedError, UnfitKeyError
from rekeyd.service.signing import CREDENTIALS_VARIABLE
from rekeyd.settings import Settings

log = structlog.get_logger()

WRAPPING_SETTING = "custody.wrapping"
MAKE_WRAPPING_KEY = (
    "make one, aws kms create-key --key-spec RSA_4096 --key-usage ENCRYPT_DECRYPT, name it in "
    "custody.wrapping.kms_key_arn, and give tenants its public key (`rekeyd key public`)"
)
"""What to do about a key in KMS that is of another kind: its spec can't be changed."""


def open_custody(
    settings: Settings, environ: Mapping[str, str] = os.environ, *, unwraps: bool = True
) -> AwsKms:
    """AWS KMS, to be entered as a context. A private key in a file is read now, one in KMS isn't asked for yet.

    Without `unwraps` it does without either, and takes no wrapped keys.

    Raises RefusedError naming the setting where the file can't be used.
    """
    aws, limits = settings.custody.aws, settings.limits
    access = KmsAccess(
        region=aws.region,
        endpoint_url=aws.endpoint_url,
        request_seconds_max=limits.request_seconds_max,
        connect_seconds_max=limits.connect_seconds_max,
        connections_max=limits.jobs_max,
        sts_endpoint_url=aws.sts_endpoint,
    )
    roles = KmsRoles(
        provision=aws.provision_role_arn,
        revoke=aws.revoke_role_arn,
        break_glass=aws.break_glass_role_arn,
        use=aws.use_principal_arns,
    )
    wrapping = settings.custody.wrapping
    unwrapper = (wrapping.key_arn or _pem_unwrapper(settings, environ)) if unwraps else None
    return AwsKms(get_session(), access, roles, unwrapper)


async def wrapping_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> WrappingKey:
    """The public key for which tenants wrap theirs. Raises RefusedError naming the setting, CustodyError."""
    if settings.custody.wrapping.key_arn is None:
        unwrapper = _pem_unwrapper(settings, environ)
        if unwrapper is None:
            raise RefusedError(
                WRAPPING_SETTING,
                "names no private key, so that there is no public one: set private_key_file or kms_key_arn",
            )
        return await unwrapper.public_key()
    async with open_custody(settings, environ) as custody:
        assert custody.unwrapper is not None, "the settings name one"
        return await custody.unwrapper.public_key()


async def refuse_unfit_wrapping_key(custody: AwsKms) -> None:
    """Raise RefusedError where what should unwrap is a KMS key of another kind than that takes.

    A key service that can't be reached keeps nobody from starting: a wrapped key waits until it can be.
    """
    if custody.unwrapper is None:
        return
    try:
        await custody.unwrapper.public_key()
    except UnfitKeyError as error:
        raise RefusedError(WRAPPING_SETTING, f"{error}: {MAKE_WRAPPING_KEY}") from error
    except CustodyError as error:
        log.warning("wrapping_key_not_looked_at", error=str(error))


def _pem_unwrapper(settings: Settings, environ: Mapping[str, str]) -> PemUnwrapper | None:
    wrapping = settings.custody.wrapping
    folder = environ.get(CREDENTIALS_VARIABLE)
    if wrapping.credential is not None:
        if not folder:
            raise RefusedError(
                SETTING, f"{wrapping.credential} is a systemd credential, and there are none here"
            )
        return PemUnwrapper.read(Path(folder) / wrapping.credential, Path(folder))
    if not wrapping.private_key_file:
        return None
    return PemUnwrapper.read(Path(wrapping.private_key_file), Path(folder) if folder else None)

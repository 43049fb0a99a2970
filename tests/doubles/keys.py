"""A customer key to name, where it doesn't matter which."""

from __future__ import annotations

from rekeyd.domain.key import KmsKey, NamedKey

A_KEY = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:111122223333:key/1",
    alias="arn:aws:kms:us-east-1:111122223333:alias/acme",
)

A_NAMED_KEY = NamedKey(A_KEY.arn, "kms", A_KEY.arn, A_KEY.alias, None)

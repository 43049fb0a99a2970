"""AWS KMS: keys described, brought and switched there."""

from rekeyd.custody.aws_kms.calls import KmsAccess, KmsRoles
from rekeyd.custody.aws_kms.service import AwsKms

__all__ = ["AwsKms", "KmsAccess", "KmsRoles"]

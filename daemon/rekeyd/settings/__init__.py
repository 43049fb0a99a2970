"""Settings: one TOML file and the environment, checked as a whole before anything starts.

Credentials are never among them: they come from the providers' own chains. Units stand last in
names, and every key is also an environment variable, `REKEYD_LEDGER__URL` for `ledger.url`.
`python -m rekeyd.settings` prints the JSON schema that is kept in `config/`.
"""

from rekeyd.settings.errors import SettingsError
from rekeyd.settings.loading import load_settings
from rekeyd.settings.model import Settings
from rekeyd.settings.sections import (
    AuditSettings,
    AwsCustodySettings,
    LedgerSettings,
    LimitsSettings,
    MigrateSettings,
    S3StoreSettings,
    SqsIntakeSettings,
    TelemetrySettings,
)

__all__ = [
    "AuditSettings",
    "AwsCustodySettings",
    "LedgerSettings",
    "LimitsSettings",
    "MigrateSettings",
    "S3StoreSettings",
    "Settings",
    "SettingsError",
    "SqsIntakeSettings",
    "TelemetrySettings",
    "load_settings",
]

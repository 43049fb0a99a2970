"""The settings as a whole."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from rekeyd.domain.tenant import LocationPattern
from rekeyd.settings.contradictions import (
    audit_faults,
    custody_faults,
    pattern_faults,
    queue_faults,
    size_faults,
    time_faults,
)
from rekeyd.settings.errors import ContradictionError, SettingsError
from rekeyd.settings.sections import (
    AuditSettings,
    CustodySettings,
    IntakeSettings,
    LedgerSettings,
    LimitsSettings,
    MigrateSettings,
    S3StoreSettings,
    Section,
    TelemetrySettings,
)

StoreName = Annotated[str, StringConstraints(pattern=r"^[a-z](_?[a-z0-9-])*$", max_length=63)]


class Settings(Section):
    """Settings of rekeyd."""

    ledger: LedgerSettings = LedgerSettings()
    stores: dict[StoreName, S3StoreSettings] = Field(default_factory=lambda: {"s3": S3StoreSettings()})
    """Stores by the names that locations use. Any table here replaces the default `s3`."""
    custody: CustodySettings = CustodySettings()
    audit: AuditSettings = AuditSettings()
    intake: IntakeSettings = IntakeSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    migrate: MigrateSettings = MigrateSettings()
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [
            *pattern_faults(self.migrate, self.stores),
            *time_faults(self.migrate, self.limits),
            *size_faults(self.limits),
            *queue_faults(self.intake.sqs),
            *custody_faults(self.custody),
            *audit_faults(self.audit, self.migrate, self.stores),
        ]
        if faults:
            raise ContradictionError(faults)
        return self

    def require_patterns(self) -> tuple[LocationPattern, LocationPattern]:
        """Source and target pattern. Raises SettingsError naming those that are empty."""
        texts = {
            "migrate.source_pattern": self.migrate.source_pattern,
            "migrate.target_pattern": self.migrate.target_pattern,
        }
        faults = [
            (key, "is required: without it a job could name any location; see the example settings")
            for key, text in texts.items()
            if not text
        ]
        if faults:
            raise SettingsError(faults)
        source, target = (LocationPattern.parse(text, key) for key, text in texts.items())
        return source, target

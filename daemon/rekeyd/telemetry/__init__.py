"""What operators see: logs, metrics, and whether the daemon is alive and ready."""

from rekeyd.telemetry.endpoint import ReadinessCheck, TelemetryEndpoint
from rekeyd.telemetry.logs import set_up_logging
from rekeyd.telemetry.metrics import Metrics

__all__ = ["Metrics", "ReadinessCheck", "TelemetryEndpoint", "set_up_logging"]

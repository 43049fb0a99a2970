"""Logs: rekeyd's own and its libraries', in one form on one stream."""

from __future__ import annotations

import logging
from typing import Literal, TextIO

import structlog
from structlog.typing import Processor

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


def set_up_logging(log_format: LogFormat, log_level: LogLevel, stream: TextIO) -> None:
    """Send everything that is logged in this process to `stream`: JSON, one object a line, or for a terminal.

    rekeyd's own is logged from `log_level` on, that of libraries from warning on. What was bound with
    structlog's context variables (job, tenant, segment) stands in each record. Calling it again replaces
    what it set up before.
    """
    always: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *always,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*always, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(log_format, colors=stream.isatty()),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("rekeyd").setLevel(log_level.upper())


def _rendering(log_format: LogFormat, *, colors: bool) -> list[Processor]:
    if log_format == "console":
        return [structlog.dev.ConsoleRenderer(colors=colors)]
    # A traceback as text, without the values of variables: they may hold what must not be logged.
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]

"""`rekeyd key posture`: how well a key is protected, for whoever can see it: the vendor, or the tenant itself."""

# ruff: noqa: PLC0415 - `--help` and unusable arguments answer without loading the SDKs

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rekeyd.cli.invocation import ConfigOption, JsonOption, Status, print_json, reported, settings_of
from rekeyd.domain.posture import Expected, Finding, KeyFacts, Known, Severity, at_least, judge

_PIPE_COLUMNS = 200

_STYLES: dict[Severity, str] = {
    "critical": "bold red",
    "high": "red",
    "unknown": "magenta",
    "medium": "yellow",
    "low": "cyan",
    "ok": "green",
}

FailOn = Literal["critical", "high", "unknown", "medium", "low"]

key_app = typer.Typer(
    name="key", help="Customer keys.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@key_app.command("posture")
def posture_command(  # noqa: PLR0913 - typer makes an option of each
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="The ARN of a KMS key or alias.")],
    *,
    role_arn: Annotated[
        str,
        typer.Option(metavar="ARN", help="A role of the key's account, assumed to look.", show_default=False),
    ] = "",
    external_id: Annotated[
        str, typer.Option(metavar="ID", help="The external id that the role asks for.", show_default=False)
    ] = "",
    alias: Annotated[
        str, typer.Option(metavar="ARN", help="The alias that must point at the key.", show_default=False)
    ] = "",
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRINCIPAL", help="Who may decide over the key or hold grants.", show_default=False
        ),
    ] = None,
    data_account: Annotated[
        str, typer.Option(metavar="ID", help="The account of the data.", show_default=False)
    ] = "",
    daemon_account: Annotated[
        str, typer.Option(metavar="ID", help="The account of the daemon.", show_default=False)
    ] = "",
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit 1 if a finding is at least so severe.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a key's protection against loss and misuse: findings, the worst first, and how to mend them."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd import service

        request = service.PostureRequest(
            reference=reference,
            role_arn=role_arn,
            external_id=external_id,
            alias=alias,
            data_account=data_account,
            daemon_account=daemon_account,
        )
        facts = asyncio.run(service.look_at_key(settings, request))
        findings = judge(facts, Expected(frozenset(expect or ()), alias))
        if as_json:
            print_json(posture_view(facts, findings))
        else:
            _print(findings)
        if fail_on is not None and at_least(findings[0].severity, fail_on):
            raise typer.Exit(Status.FAILED)


def posture_view(facts: KeyFacts, findings: Sequence[Finding]) -> dict[str, object]:
    """What `key posture --json` prints. Scripts are built on these names: they change only by addition."""
    return {
        "reference": facts.reference.arn,
        "key": facts.description.value.arn if isinstance(facts.description, Known) else None,
        "account": facts.reference.account,
        "region": facts.reference.region,
        "looked_as": facts.looker.value if isinstance(facts.looker, Known) else None,
        "worst": findings[0].severity,
        "findings": [
            {
                "name": finding.name,
                "severity": finding.severity,
                "evidence": finding.evidence,
                "mend": finding.mend or None,
            }
            for finding in findings
        ],
    }


def posture_table(findings: Sequence[Finding]) -> Table:
    """Findings, one below the other, with what to do about each."""
    table = Table("severity", "what", "evidence", box=SIMPLE_HEAD)
    for finding in findings:
        said = Text(finding.evidence)
        if finding.mend:
            said.append(f"\n{finding.mend}", style="bold")
        table.add_row(
            Text(finding.severity, style=_STYLES[finding.severity]), Text(finding.name, no_wrap=True), said
        )
    return table


def _print(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width: what is read there must not be folded at 80 columns.
        console.width = _PIPE_COLUMNS
    console.print(posture_table(findings))

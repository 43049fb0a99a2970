"""The commands: each reads its arguments, asks, and prints the answer."""

# ruff: noqa: PLC0415 - `--help`, `--version` and unusable arguments answer without loading the SDKs

from __future__ import annotations

import asyncio
import math
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from rekeyd import __version__
from rekeyd.cli import keys
from rekeyd.cli.certificates import PublicKeysOption, certificate_app, kept_checkpoints, read_public_key
from rekeyd.cli.invocation import (
    ConfigOption,
    JsonOption,
    Status,
    principal,
    print_json,
    reported,
    say,
    settings_of,
)
from rekeyd.cli.progress import average
from rekeyd.cli.tables import (
    checks_table,
    job_bar,
    job_table,
    jobs_table,
    placement_table,
    trail_table,
)
from rekeyd.cli.views import check_view, job_view, placement_view, progress_view, trail_view
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import MESSAGE_BYTES_MAX, Job, JobState
from rekeyd.settings import load_settings

_TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")

# Base64, a byte order mark, trailing white space: room enough to tell "too long" from "cut off".
_INPUT_BYTES_MAX = 2 * MESSAGE_BYTES_MAX

_PIPE_COLUMNS = 200

app = typer.Typer(
    name="rekeyd",
    help="Moves a tenant's objects under the tenant's own key, keeps them there, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
audit_app = typer.Typer(name="audit", help="The audit trail.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(audit_app)
app.add_typer(keys.key_app)
app.add_typer(certificate_app)

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    app()


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"rekeyd {__version__}")
        raise typer.Exit


@app.callback()
def rekeyd(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Keep what stands before the command: `rekeyd --config FILE COMMAND`."""
    context.obj = config


@app.command("serve")
def serve_command(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    with reported():
        settings = settings_of(context, config)
        settings.require_patterns()
        import uvloop

        from rekeyd import service

        raise typer.Exit(uvloop.run(service.serve(settings)))


@app.command("check")
def check_command(
    context: typer.Context, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Validate the settings, reach every dependency, say what is wrong and how to mend it."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd import service

        findings = asyncio.run(service.check(settings))
        if as_json:
            print_json([check_view(finding) for finding in findings])
        else:
            _print(checks_table(findings))
        if any(not finding.reachable for finding in findings):
            raise typer.Exit(Status.UNREACHABLE)
        if any(not finding.ok for finding in findings):
            raise typer.Exit(Status.FAILED)


@app.command("submit")
def submit_command(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A job message; - reads standard input.")],
    *,
    config: ConfigOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what a rotation would take; admit nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Admit a job message and print its id."""
    with reported():
        settings = settings_of(context, config)
        settings.require_patterns()
        raw = _read_message(file)
        from rekeyd.cli import asking

        if plan:
            from rekeyd.cli.rotation_plan import show_plan

            show_plan(settings, raw, as_json=as_json)
            return
        admission = asyncio.run(asking.submit(settings, raw, principal()))
        if as_json:
            print_json({**job_view(admission.job), "created": admission.created})
            return
        typer.echo(admission.job.id)
        if not admission.created:
            say(f"rekeyd: {admission.job.id} was known already: it is {admission.job.state}")


@app.command("jobs")
def jobs_command(
    context: typer.Context,
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
    state: Annotated[JobState | None, typer.Option(help="Only those in it.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        jobs = asyncio.run(asking.jobs(settings, tenant, state, limit))
        if as_json:
            print_json([job_view(job) for job in jobs])
        elif jobs:
            _print(jobs_table(jobs))
        else:
            say("rekeyd: no such jobs")


@app.command("job")
def job_command(
    context: typer.Context,
    job_id: JobId,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for its end; exit 1 unless it completes.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job: phase, counts, bytes, rate, time left."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        if not watch:
            job, now = asyncio.run(asking.look(settings, job_id))
        elif as_json:
            job, now = asyncio.run(asking.watch(settings, job_id, lambda _job: None))
        else:
            with job_bar(Console(stderr=True)) as show:
                job, now = asyncio.run(asking.watch(settings, job_id, show))
        progress = average(job, now)
        if as_json:
            print_json({**job_view(job), **progress_view(progress)})
        else:
            _print(job_table(job, progress))
        if watch and job.state != "completed":
            raise typer.Exit(Status.FAILED)


@app.command("resume")
def resume_command(
    context: typer.Context, job_id: JobId, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Have a held or failed job picked up at once."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        _print_changed(asyncio.run(asking.resume(settings, job_id, principal())), as_json=as_json)


@app.command("approve")
def approve_command(
    context: typer.Context, job_id: JobId, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Agree to what a held job can't undo, or accept that data can be read elsewhere."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        _print_changed(asyncio.run(asking.approve(settings, job_id, principal())), as_json=as_json)


@app.command("cancel")
def cancel_command(
    context: typer.Context, job_id: JobId, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """End a job: nothing verified is undone, nothing is deleted. Done once its last call must have ended."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        job = asyncio.run(asking.cancel(settings, job_id, principal(), _say_waiting))
        _print_changed(job, as_json=as_json)


@app.command("placement")
def placement_command(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT")],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a tenant's data live."""
    with reported():
        settings = settings_of(context, config)
        if not _TENANT.fullmatch(tenant):
            raise RefusedError("tenant", "write 1 to 128 of A-Z a-z 0-9 . _ -")
        from rekeyd.cli import asking

        placement = asyncio.run(asking.placement(settings, tenant))
        if as_json:
            print_json(placement_view(placement))
        else:
            _print(placement_table(placement))


@audit_app.command("verify")
def audit_verify_command(
    context: typer.Context,
    *,
    public_keys: PublicKeysOption = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A checkpoint or certificate that was kept elsewhere, or a folder of them: the trail must have it.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the hash chains, check the signed checkpoints; exit 1 and the first bad one where one is broken."""
    with reported():
        settings = settings_of(context, config)
        known = [read_public_key(path) for path in public_keys or []]
        outside = kept_checkpoints(checkpoint or [])
        from rekeyd.cli import asking

        finding = asyncio.run(asking.audit(settings, known, outside))
        if as_json:
            print_json(trail_view(finding))
        else:
            _print(trail_table(finding))
        if not finding.holds:
            raise typer.Exit(Status.FAILED)


@app.command("demo")
def demo_command(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Your own files instead of made ones; they are only read.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the whole story on embedded servers, and prove how it ended."""
    with reported():
        from rekeyd import demo, service

        instruments = demo.Instruments(
            # Its daemon may be amid making it: then both do.
            open_ledger=lambda path, environ: service.open_ledger(load_settings(path, environ), make=True),
            job_bar=job_bar,
            job_view=job_view,
        )
        outcome = demo.run(data, instruments, Console(stderr=True, quiet=as_json))
        if as_json:
            print_json(outcome.document())
        else:
            _print(demo.summary(outcome))
        if not outcome.ok:
            raise typer.Exit(Status.FAILED)


def _say_waiting(seconds: float) -> None:
    say(
        f"rekeyd: cancelled; waiting until every claim that was held on it has ended, {math.ceil(seconds)} s at most"
    )


def _print_changed(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job_view(job))
    else:
        typer.echo(f"{job.id} is {job.state}")


def _print(shown: RenderableType) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width: what is read there must not be folded at 80 columns.
        console.width = _PIPE_COLUMNS
    console.print(shown)


def _read_message(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(_INPUT_BYTES_MAX)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_INPUT_BYTES_MAX)
    except OSError as error:
        raise RefusedError("FILE", f"{file} can't be read: {error.strerror}") from error

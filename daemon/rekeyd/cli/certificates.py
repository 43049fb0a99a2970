"""`rekeyd certificate`: the signed evidence of finished jobs, printed and checked.

`certificate JOB` shows a job's; `certificate verify` and `certificate public-key` are commands of their own. A job that
is called like one of these is shown by `certificate show JOB`.
"""

# ruff: noqa: PLC0415 - what checks a file loads no SDK, and needs neither settings nor ledger

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rekeyd.cli.invocation import ConfigOption, JsonOption, Status, print_json, reported, settings_of
from rekeyd.domain.errors import RefusedError

if TYPE_CHECKING:
    from rekeyd.domain.certificate import Certificate
    from rekeyd.domain.leaves import Leaf
    from rekeyd.domain.signed import PublicKey

_SHOW = "show"
_FILE_BYTES_MAX = 64 * 1024**2
"""The longest certificate, proof or key that is read."""

_EVIDENCE_FILES = "*.jsonl"

PublicKeysOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-key",
        metavar="FILE",
        help="A key that may have signed (PEM); several times for several. Left out: this ledger's own.",
        show_default=False,
    ),
]


class _JobOrCommand(TyperGroup):
    """What isn't the name of a command is a job."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own kind of context
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_SHOW, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


certificate_app = typer.Typer(
    name="certificate",
    cls=_JobOrCommand,
    help=(
        "The signed evidence of finished jobs: `certificate JOB` prints a job's; with --object KEY the proof of one "
        "object. A job that is called verify or public-key is shown by `certificate show JOB`."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="JOB | COMMAND [ARGS]...",
)


@certificate_app.command(_SHOW)
def show_command(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--object",
            metavar="KEY",
            help="Print the proof of this object instead, by its key in the source or in the target.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a job's certificate, as it was signed; it is JSON with and without --json."""
    del as_json
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        asked = asking.certificate(settings, job_id) if key is None else asking.proof(settings, job_id, key)
        typer.echo(asyncio.run(asked))


@certificate_app.command("public-key")
def public_key_command(
    context: typer.Context, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print the public key with which this daemon's certificates are checked (PEM)."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd import service

        found = asyncio.run(service.signing_key(settings))
        if as_json:
            print_json({"algorithm": "ed25519", "fingerprint": found.fingerprint, "pem": found.pem})
        else:
            typer.echo(found.pem, nl=False)


@certificate_app.command("verify")
def verify_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate.")],
    *,
    public_key: Annotated[
        Path,
        typer.Option(
            "--public-key", metavar="FILE", help="The signer's public key (PEM), had from a safe place."
        ),
    ],
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            "--evidence",
            metavar="FILE",
            help=(
                "Proofs of single objects, or all files of the evidence (or a folder of them), to be checked as "
                "well; several times for several."
            ),
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a certificate, offline: needs no settings, no ledger and no network. Exit 1 where it doesn't hold."""
    with reported():
        key = read_public_key(public_key)
        checked = _check(read_file(file, "FILE"), key, _files(evidence or []))
        if as_json:
            print_json(checked.view())
        else:
            for line in checked.lines():
                typer.echo(line)
        if checked.faults:
            raise typer.Exit(Status.FAILED)


@dataclass(slots=True)
class _Checked:
    """What was found."""

    certificate: Certificate | None = None
    evidence: bool = False
    """Whether all the evidence was looked at, and holds."""
    proven: list[Leaf] = field(default_factory=list)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    """What doesn't hold, the fault's name, and more of it."""

    def view(self) -> dict[str, object]:
        certificate = self.certificate
        return {
            "ok": not self.faults,
            "job": None if certificate is None else certificate.job.id,
            "tenant": None if certificate is None else certificate.tenant,
            "objects": None if certificate is None else certificate.total.objects,
            "evidence": self.evidence,
            "proven": [leaf.model_dump(mode="json") for leaf in self.proven],
            "faults": [
                {"about": about, "name": name, "detail": detail} for about, name, detail in self.faults
            ],
        }

    def lines(self) -> Iterator[str]:
        if self.certificate is not None:
            yield (
                f"certificate: holds: job {self.certificate.job.id} of {self.certificate.tenant}, "
                f"{self.certificate.total.objects} objects, {self.certificate.certified_at}"
            )
            if self.evidence:
                yield f"evidence: holds, of all {self.certificate.total.objects} objects"
        for leaf in self.proven:
            yield f"proof: holds: {leaf.key!r} is {leaf.outcome} in the source, {leaf.target_key!r} in the target"
        for about, name, detail in self.faults:
            yield f"{about}: {name}: {detail}"


@dataclass(frozen=True, slots=True)
class _Given:
    """What was named as evidence."""

    files: list[Path]
    whole: bool
    """Whether a folder was named: all the evidence is to be in it then, also where nothing is."""


def _check(raw: bytes, key: PublicKey, given: _Given) -> _Checked:
    from rekeyd.domain.certificate import check_evidence, check_proof, is_proof, verify_certificate
    from rekeyd.domain.signed import NotHeldError

    checked = _Checked()
    try:
        checked.certificate = verify_certificate(raw, key)
    except NotHeldError as error:
        checked.faults.append(("certificate", error.fault.name, error.fault.detail))
        return checked
    lines: list[Path] = []
    for path in given.files:
        content = b"" if path.suffix == ".jsonl" else read_file(path, "--evidence")
        if not is_proof(content):
            lines.append(path)
            continue
        try:
            checked.proven.append(check_proof(checked.certificate, content))
        except NotHeldError as error:
            checked.faults.append((str(path), error.fault.name, error.fault.detail))
    if lines or given.whole:
        try:
            check_evidence(checked.certificate, _lines(lines))
            checked.evidence = True
        except NotHeldError as error:
            checked.faults.append(("evidence", error.fault.name, error.fault.detail))
    return checked


def read_public_key(path: Path) -> PublicKey:
    """The key of a PEM file. Raises RefusedError."""
    from rekeyd.domain.signed import PublicKey

    try:
        return PublicKey.of_pem(read_file(path, "--public-key"))
    except ValueError as error:
        raise RefusedError("--public-key", f"{path} {error}") from error


def kept_checkpoints(paths: Sequence[Path]) -> list[str]:
    """The checkpoints of these files, and of the files in these folders. Raises RefusedError."""
    found = []
    for path in paths:
        files = sorted(path.glob("**/*.json")) if path.is_dir() else [path]
        if not files:
            raise RefusedError("--checkpoint", f"{path} has no checkpoint in it")
        found += [read_file(file, "--checkpoint").decode("utf-8", "surrogatepass") for file in files]
    return found


def read_file(path: Path, name: str) -> bytes:
    """A file's contents. Raises RefusedError naming the argument."""
    try:
        with path.open("rb") as opened:
            return opened.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise RefusedError(name, f"{path} can't be read: {error.strerror}") from error


def _files(named: list[Path]) -> _Given:
    files: list[Path] = []
    for path in named:
        files += sorted(path.glob(_EVIDENCE_FILES)) if path.is_dir() else [path]
    return _Given(files, whole=any(path.is_dir() for path in named))


def _lines(paths: list[Path]) -> Iterator[bytes]:
    """The lines of evidence files in the order of their names, which is that of the keys."""
    for path in sorted(paths, key=lambda each: each.name):
        try:
            with path.open("rb") as opened:
                for line in opened:
                    yield line.removesuffix(b"\n")
        except OSError as error:
            raise RefusedError("--evidence", f"{path} can't be read: {error.strerror}") from error

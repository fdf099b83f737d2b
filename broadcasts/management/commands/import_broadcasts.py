import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string
from tqdm import tqdm

from broadcasts.directory import UserServiceUnavailable
from broadcasts.importing import Import, Line, Outcome

SHOWN = 50  # refused lines; the report has them all


class Command(BaseCommand):
    help = (
        "Import broadcasts from JSON lines. Run it again after an interruption: what is in is known"
        " by its external_id. Exit code 1 when a line was refused; the others are in."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--mapping",
            default="broadcasts.importing.as_in_the_api",
            help="Dotted path to a function that makes an Entry of another shape of line,"
            " such as broadcasts.advisories.entry",
        )
        parser.add_argument("--sender", help="Username of the person in whose name they are sent")
        parser.add_argument("--dry-run", action="store_true", help="Check all, write nothing")
        parser.add_argument("--report", type=Path, help="File for the refused lines, as JSON lines")
        parser.add_argument("--progress", action="store_true", help="A bar even without a terminal")

    def handle(self, *args: Any, **options: Any) -> None:
        importer = Import(
            _mapping(options["mapping"]),
            sender=_sender(options["sender"]),
            dry_run=options["dry_run"],
        )
        try:
            refused = self._run(importer, options["file"], options["report"], options["progress"])
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except UserServiceUnavailable as error:
            raise CommandError(f"{error}. Run it again later: what is in, is in.") from error
        self._summarise(importer, refused)
        if refused:
            raise CommandError(f"{refused} lines were refused; the others are fine.", returncode=1)

    def _run(self, importer: Import, path: Path, report: Path | None, progress: bool) -> int:  # noqa: FBT001
        refused = 0
        with ExitStack() as stack:
            output = stack.enter_context(report.open("w")) if report else None
            for line in self._lines(importer, path, progress=progress):
                if line.outcome != Outcome.REFUSED:
                    continue
                refused += 1
                if output:
                    fact = {"line": line.number, "reason": line.reason}
                    output.write(json.dumps(fact, ensure_ascii=False) + "\n")
                if refused <= SHOWN:
                    tqdm.write(f"Line {line.number}: {line.reason}", file=self.stderr)
        return refused

    def _lines(self, importer: Import, path: Path, *, progress: bool) -> Iterator[Line]:
        off = False if progress else None  # None: only on a terminal
        bar = tqdm(total=path.stat().st_size, unit="B", unit_scale=True, disable=off)
        with path.open("rb") as file, bar:
            for line in importer.run(file):
                bar.update(file.tell() - bar.n)
                yield line

    def _summarise(self, importer: Import, refused: int) -> None:
        if refused > SHOWN:
            self.stderr.write(f"... and {refused - SHOWN} more: --report FILE lists them all.")
        counts = [f"{importer.outcomes[outcome]:,} {outcome}" for outcome in Outcome]
        dry = "Dry run, nothing was written: " if importer.dry_run else ""
        self.stdout.write(f"{dry}{'; '.join(counts)}.")


def _mapping(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise CommandError(f"--mapping: {error}") from error


def _sender(username: str | None) -> User | None:
    if username is None:
        return None
    try:
        return User.objects.get(username=username)
    except User.DoesNotExist as error:
        raise CommandError(f"--sender: there is no user {username}.") from error

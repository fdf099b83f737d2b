import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

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
            with _report(options["report"]) as report:
                for line in self._lines(importer, options["file"], progress=options["progress"]):
                    if line.outcome == Outcome.REFUSED:
                        self._tell(line, importer, report)
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except UserServiceUnavailable as error:
            raise CommandError(f"{error}. Run it again later: what is in, is in.") from error
        self._summarise(importer)

    def _lines(self, importer: Import, path: Path, *, progress: bool) -> Iterator[Line]:
        off = False if progress else None  # None: only on a terminal
        bar = tqdm(total=path.stat().st_size, unit="B", unit_scale=True, disable=off)
        with path.open("rb") as file, bar:
            for line in importer.run(file):
                bar.update(file.tell() - bar.n)
                yield line

    def _tell(self, line: Line, importer: Import, report: TextIO | None) -> None:
        if report:
            fact = {"line": line.number, "reason": line.reason}
            report.write(json.dumps(fact, ensure_ascii=False) + "\n")
        if importer.outcomes[Outcome.REFUSED] <= SHOWN:
            tqdm.write(f"Line {line.number}: {line.reason}", file=self.stderr)

    def _summarise(self, importer: Import) -> None:
        refused = importer.outcomes[Outcome.REFUSED]
        if refused > SHOWN:
            self.stderr.write(f"... and {refused - SHOWN} more: --report FILE lists them all.")
        counts = [f"{importer.outcomes[outcome]:,} {outcome}" for outcome in Outcome]
        dry = "Dry run, nothing was written: " if importer.dry_run else ""
        self.stdout.write(f"{dry}{'; '.join(counts)}.")
        if refused:
            raise CommandError(f"{refused:,} refused: correct these lines and run it again.")


def _report(path: Path | None) -> AbstractContextManager[TextIO | None]:
    return path.open("w") if path else nullcontext()


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

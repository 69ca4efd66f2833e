"""The command `doctor`: checks everything that a deployment needs, and says what to do about what is wrong."""

import typer
from rich.text import Text

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.tasks.cli.doctor_postgresql import check_postgresql
from pattern_storage.tasks.cli.doctor_redis import check_redis_servers
from pattern_storage.tasks.cli.doctor_service import check_service
from pattern_storage.tasks.cli.doctor_workers import ask_workers, check_workers
from pattern_storage.tasks.cli.env import left_over
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.tables import print_table


def doctor(as_json: Json = False) -> None:
    """Check servers, workers and what waits.

    Exit codes: 0 all is well, 1 something is wrong, 2 a setting is missing or wrong, 3 a server is unreachable.
    """
    findings = check_all(load_settings())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        rows = [
            (Text("ok", "green") if each.ok else Text("WRONG", "bold red"), each.subject, each.found, each.advice)
            for each in findings
        ]
        print_table(("", "what", "found", "what to do"), rows)
    if any(finding.unreachable for finding in findings):
        if hint := left_over():
            err.print(hint)
        raise typer.Exit(Exit.UNREACHABLE)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.FAILED)


def check_all(settings: Settings) -> list[Finding]:
    """Return the finding of each check. Raises SettingsInvalid for a URL that cannot be used."""
    servers = [*check_postgresql(settings), *check_redis_servers(settings)]
    workers = ask_workers(settings)
    return [*servers, *check_workers(settings, workers), *check_service(settings, workers.queues)]

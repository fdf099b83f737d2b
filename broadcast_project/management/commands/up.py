import asyncio
import errno
import os
import socket
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import supports_color
from django.db import connections
from django.utils.termcolors import make_style

from broadcast_project.supervisor import Supervisor
from broadcasts.demo import known_logins

COLOURS = {"web": "cyan", "relay": "magenta", "jobs": "yellow"}
LISTENING_POLL = 0.1  # seconds


class Command(BaseCommand):
    help = "Everything for one machine: migrate, then run web, relay and jobs until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        require_free(port)
        try:
            self._prepare()
        except KeyboardInterrupt:
            raise CommandError("Interrupted before anything was started.") from None
        lacks_operator = not has_operator()
        connections.close_all()
        asyncio.run(self._run(port, lacks_operator))

    def _prepare(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        if settings.DEBUG:
            call_command("demo")
            settings.STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns when it is not there
        else:
            refuse_demo_logins()
            call_command("collectstatic", interactive=False, verbosity=0)

    async def _run(self, port: int, lacks_operator: bool) -> None:
        os.environ.setdefault("SITE_URL", f"http://localhost:{port}")  # where links lead
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        supervisor = Supervisor(
            {
                "web": [*manage, "web", "--port", str(port)],
                "relay": [*manage, "relay"],
                "jobs": [*manage, "qcluster"],
            },
            self._write_line,
        )
        welcome = asyncio.create_task(self._welcome(port, lacks_operator))
        await supervisor.run()
        welcome.cancel()

    async def _welcome(self, port: int, lacks_operator: bool) -> None:
        await until_listening(port)
        url = f"http://localhost:{port}"
        lines = [
            f"Inbox      {url}/",
            f"Operators  {url}/admin/",
            f"API        {url}/api/docs",
        ]
        if settings.DEBUG:
            lines.append(
                "Log in as  admin/admin (operator), user-001/user-001, user-002/user-002 ..."
            )
        if lacks_operator:
            command = f"{sys.executable} manage.py createsuperuser"
            lines.append(f"No operator yet: with the same settings, run {command}")
        lines.append("Stop with  Ctrl-C")
        for line in lines:
            self._write_line("up", line)

    def _write_line(self, part: str, line: str) -> None:
        label = f"{part:<5} |"
        if supports_color() and part in COLOURS:
            label = make_style(fg=COLOURS[part])(label)
        self.stdout.write(f"{label} {line}")
        self.stdout.flush()


def require_free(port: int) -> None:
    for host in ("127.0.0.1", ""):  # one does not exclude the other everywhere
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OverflowError:
                raise CommandError(f"{port} is no port: choose one from 1 to 65535.") from None
            except OSError as error:
                raise CommandError(_why_not(port, error)) from None


def _why_not(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is taken: stop what listens there or choose another"
            f" with PORT={port + 1} make run"
        )
    return f"Port {port} cannot be used ({error.strerror}): choose another with PORT=8000 make run"


async def until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(LISTENING_POLL)
        else:
            writer.close()
            return


def refuse_demo_logins() -> None:
    if known := known_logins():
        raise CommandError(
            f"DEBUG is off, and these demo logins have known passwords: {', '.join(known)}."
            " Start with another DATABASE_URL or VAR_DIR, or with DEBUG=true, or give each a"
            f" password: {sys.executable} manage.py changepassword {known[0]}"
        )


def has_operator() -> bool:
    return get_user_model().objects.filter(is_active=True, is_staff=True).exists()

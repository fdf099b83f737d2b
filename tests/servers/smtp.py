"""A mail server for tests: it speaks the protocol over a socket, and keeps what it is given."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class Session(socketserver.StreamRequestHandler):
    server: "Smtp"

    def handle(self) -> None:
        self.say("220 tests")
        self.recipients: list[str] = []
        while line := self.rfile.readline():
            command, _, rest = line.decode().strip().partition(" ")
            if (answer := self.answer(command.upper(), rest)) is None:
                return
            self.say(answer)
            if command.upper() == "QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def answer(self, command: str, rest: str) -> str | None:
        """None hangs up."""
        if command == "RCPT":
            address = rest.partition("<")[2].partition(">")[0]
            self.recipients.append(address)
            return self.server.says.get(address, "250 ok")
        if command != "DATA":
            return {"EHLO": "250 tests", "QUIT": "221 bye"}.get(command, "250 ok")
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        self.server.messages.append(message_from_bytes(b"".join(lines), policy=policy.default))
        return self.server.then()


class Smtp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.messages: list[EmailMessage] = []
        self.says: dict[str, str] = {}
        """What it answers to recipients that it does not take."""
        self.then: Callable[[], str | None] = lambda: "250 taken"
        """What it answers to a message, or None to hang up."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def receiving() -> Iterator[Smtp]:
    with Smtp() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

"""A Kafka Connect of a few lines at the HTTP edge, for what a real one takes minutes to do."""

import json
import re
from http import HTTPStatus
from typing import Any

import httpx

WORKER = "worker-1:8083"
TRACE = (
    "org.apache.kafka.connect.errors.ConnectException: It stopped.\n"
    "\tat io.debezium.Some.method(Some.java:7)\n"
    "Caused by: java.io.EOFException: the other side went"
)


class FakeConnect:
    def __init__(self) -> None:
        self.connectors: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, httpx.Response | Exception] = {}
        """By a pattern of "METHOD path", what is answered or raised instead."""
        self.complaints: list[str] = []
        self.away = False
        self.leaves_after = ""
        """A pattern of "METHOD path": the last request that it answers."""

    def has(self, name: str, state: str = "RUNNING", /, *tasks: str, **config: str) -> None:
        """A connector of no Debezium, unless `config` says so, with a task for each state."""
        self.connectors[name] = {
            "status": {
                "name": name,
                "connector": status(state),
                "tasks": [
                    {"id": number} | status(task)
                    for number, task in enumerate(tasks or ["RUNNING"])
                ],
                "type": "source",
            },
            "info": {
                "name": name,
                "config": {"connector.class": "org.example.Source", "name": name} | config,
            },
        }

    def asked(self, pattern: str) -> list[str]:
        return [request for request in self.requests if re.search(pattern, request)]

    def handle(self, request: httpx.Request) -> httpx.Response:
        line = f"{request.method} {request.url.raw_path.decode()}"
        self.requests.append(line)
        if self.away:
            raise httpx.ConnectError("Connection refused")
        self.away = bool(self.leaves_after and re.search(self.leaves_after, line))
        for pattern, answer in self.answers.items():
            if re.search(pattern, line):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        if line.endswith("?expand=status&expand=info"):
            return httpx.Response(HTTPStatus.OK, json=self.connectors)
        if line.endswith("/config/validate"):
            errors = [{"value": {"errors": self.complaints}}]
            return httpx.Response(HTTPStatus.OK, json={"configs": errors})
        if put := re.fullmatch(r"PUT /connectors/([^/]+)/config", line):
            config = json.loads(request.content) | {"name": put[1]}
            self.has(put[1], **config)
            return httpx.Response(HTTPStatus.CREATED, json={"config": config})
        return httpx.Response(HTTPStatus.ACCEPTED)


def status(state: str) -> dict[str, str]:
    trace = {"trace": TRACE} if state == "FAILED" else {}
    return {"state": state, "worker_id": WORKER} | trace

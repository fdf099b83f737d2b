"""Processes of the tests of usage: `ask KEY COUNT` and `sync`, with the project's environment."""

import logging
import os
import random
import sys
from collections import Counter
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broadcast_project.settings")
django.setup()
logging.disable()  # a traceback for each broken answer

from django.test import Client  # noqa: E402

from connections.api import ConnectedView  # noqa: E402
from operations.keys.usage import outcome_of, recorder, sync  # noqa: E402

PATHS = {
    "/api/user/sse/connected/1": 200,
    "/api/user/messages?cursor=broken": 400,
    "/api/user/sse/connected/nobody-by-this-name": 403,
    "/api/user/sse/connected/broken": 500,
}


def ask(written: str, count: int) -> None:
    """Many requests, as a client has them answered; in the end how, by the client's own count."""
    get = ConnectedView.get

    def broken(self: Any, request: Any, user: str) -> Any:
        if user == "broken":
            raise RuntimeError("broken")
        return get(self, request, user)

    ConnectedView.get = broken  # type: ignore[method-assign]
    client = Client(headers={"x-api-key": written, "host": "localhost"})
    client.raise_request_exception = False
    chance = random.Random(os.getpid())
    answers: Counter[str] = Counter()
    for path in chance.choices(list(PATHS), weights=[6, 2, 1, 1], k=count):
        answers[outcome_of(client.get(path).status_code)] += 1
    recorder.close()
    print(*(f"{outcome}={number}" for outcome, number in answers.items()))


def carry() -> None:
    """For ever: whoever started it kills it."""
    print("ready", flush=True)
    while True:
        sync()
        print("carried", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", written, count]:
            ask(written, int(count))
        case ["sync"]:
            carry()

"""httpx-sse, which leaves the return to who uses it."""

import sys
import time

import httpx
import httpx_sse


def follow(server: str) -> None:
    headers: dict[str, str] = {}
    retry = 1_000  # milliseconds
    while True:
        try:
            with httpx.Client(timeout=60) as client:
                answer = client.post(f"{server}/token", auth=("reader", "reader"))
                headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"
                with httpx_sse.connect_sse(
                    client, "GET", f"{server}/connect", headers=headers
                ) as source:
                    for event in source.iter_sse():
                        retry = event.retry or retry
                        if event.id:
                            headers["Last-Event-ID"] = event.id
                        if report(event):
                            return
        except httpx.HTTPError:
            pass
        time.sleep(retry / 1_000)


def report(event: httpx_sse.ServerSentEvent) -> bool:
    """Print it; whether the client is meant to stay away after it."""
    print(event.event, event.id or "-", event.data, flush=True)
    data = event.json()
    ends = data.get("force_logoff") is True or data.get("reconnect") is False
    return ends or event.event == "CONNECTION_LIMIT_REACHED"


if __name__ == "__main__":
    follow(sys.argv[1])

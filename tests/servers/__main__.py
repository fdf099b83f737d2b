import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers import CHECKOUT, Kafka, MissingError, Postgres, Redis, Server

SERVERS: list[Callable[[Path], Server]] = [Postgres, Redis, Kafka]


def main(action: str) -> None:
    for make in SERVERS:
        try:
            server = make(CHECKOUT / "var" / "services" / make.__name__.lower())
            if action == "stop":
                server.stop()
            else:
                print(f"export {server.variable}={server.start()}", flush=True)
        except MissingError as missing:
            print(f"# {make.__name__}: {missing}")


if __name__ == "__main__":
    main(sys.argv[1])

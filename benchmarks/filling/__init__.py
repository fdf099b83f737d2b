from importlib import import_module


def fill(app: str, job: str, rows: int) -> None:
    """Make so many rows for the job to work on."""
    import_module(f"{__name__}.{app}").FILL[job](rows)


def make_ready(app: str, job: str) -> None:
    """What the process that runs the job needs beside rows, such as a server to ask."""
    ready = getattr(import_module(f"{__name__}.{app}"), "READY", {})
    if job in ready:
        ready[job]()

"""Programs of Node.js beside what npm fetches for them, once a checkout."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers import CHECKOUT, MissingError, find_program

FETCH_TIMEOUT = 300  # seconds


def node(directory: Path, script: str) -> list[str]:
    """The command of a script that stands in `directory` with its `package.json`."""
    return [str(find_program("node", "nodejs")), str(_fetched(directory) / script)]


def _fetched(directory: Path) -> Path:
    sources = [directory / "package.json", *sorted(directory.glob("*.js"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    ready = CHECKOUT / "build" / f"npm-{digest}"
    if not ready.exists():
        _fetch(sources, ready)
    return ready


def _fetch(sources: list[Path], target: Path) -> None:
    npm = find_program("npm", "npm")
    new = target.with_suffix(f".{os.getpid()}")  # another run may be fetching as well
    new.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, new)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    command = [str(npm), "install", *options]
    result = subprocess.run(command, cwd=new, capture_output=True, timeout=FETCH_TIMEOUT)
    if result.returncode:
        shutil.rmtree(new)
        raise MissingError(f"npm could not fetch what {sources[0]} lists")
    try:
        new.rename(target)
    except OSError:  # the other run was first
        shutil.rmtree(new)

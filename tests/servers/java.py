"""Servers on Java: Maven fetches what `jars/` lists, once a machine."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.servers.programs import CHECKOUT, MissingError, find_program

JARS = Path(__file__).parent / "jars"
PACKAGES = "openjdk-17-jre-headless maven"

# Small and soon ready, rather than fast in the end.
OPTIONS = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.disableJmx=true"]
OPTIONS += [f"-Dlog4j2.configurationFile={JARS / 'log4j2.properties'}"]


class Java:
    def __init__(self, pom: str) -> None:
        self.program = find_program("java", PACKAGES)
        self.maven = find_program("mvn", PACKAGES)
        self.pom = JARS / f"{pom}.xml"

    def command(self, main: str, *arguments: str) -> list[str]:
        return [str(self.program), *OPTIONS, main, *arguments]

    def environment(self) -> dict[str, str]:
        return {"CLASSPATH": self._classpath()}

    def run(self, main: str, *arguments: str) -> None:
        result = subprocess.run(
            self.command(main, *arguments),
            env=os.environ | self.environment(),
            capture_output=True,
            text=True,
        )
        if result.returncode:
            raise RuntimeError(f"{main} failed: {result.stderr or result.stdout}")

    def _classpath(self) -> str:
        """The jars in Maven's own repository; Maven takes seconds to say so, hence the file."""
        digest = hashlib.sha256(self.pom.read_bytes()).hexdigest()[:12]
        known = CHECKOUT / "build" / "jars" / f"{self.pom.stem}-{digest}"
        known.parent.mkdir(parents=True, exist_ok=True)
        with (known.parent / "lock").open("w") as lock:  # Maven's repository is for one at a time
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_all_there(known):
                self._fetch(known)
        return known.read_text()

    def _fetch(self, target: Path) -> None:
        print(f"# Maven fetches {self.pom.stem}: once, about a minute ...", file=sys.stderr)
        new = target.with_suffix(".new")
        goal = [str(self.maven), "-B", "-q", "-f", str(self.pom), "dependency:build-classpath"]
        result = subprocess.run([*goal, f"-Dmdep.outputFile={new}"], capture_output=True)
        if result.returncode:
            raise MissingError(f"Maven could not fetch its jars; see {' '.join(goal)}")
        new.replace(target)


def _is_all_there(classpath: Path) -> bool:
    return classpath.exists() and all(map(os.path.exists, classpath.read_text().split(os.pathsep)))

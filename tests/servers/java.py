"""Servers on Java: Maven fetches what `jars/` lists, once a machine."""

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
        if not known.exists() or not all(map(os.path.exists, known.read_text().split(os.pathsep))):
            self._fetch(known)
        return known.read_text()

    def _fetch(self, target: Path) -> None:
        print(f"# Maven fetches {self.pom.stem}: once, about a minute ...", file=sys.stderr)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(f".{os.getpid()}")  # another run may be fetching as well
        goal = [str(self.maven), "-B", "-q", "-f", str(self.pom), "dependency:build-classpath"]
        result = subprocess.run([*goal, f"-Dmdep.outputFile={new}"], capture_output=True)
        if result.returncode:
            raise MissingError(f"Maven could not fetch its jars; see {' '.join(goal)}")
        new.replace(target)

"""What the streams of this process did since it started; Prometheus knows a restart by itself."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Written on the event loop only, so that counting costs no lock."""

    opened: int = 0
    closed: int = 0
    frames: int = 0
    bytes: int = 0
    fallen_behind: int = 0
    resets: int = 0


counters = Counters()

from pathlib import Path

from tests.servers.programs import (
    STOP_TIMEOUT,
    Daemon,
    answers,
    find_program,
    is_free,
    lasting_ports,
    speaks,
)
from tests.waiting import wait_until

CONFIG = """
[global]
include={{libdir}}/internal.conf
rundir={directory}
ipc_prefix=

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{http}
logdir={directory}

[proxy]
routesfile=routes
debug=true
sig_key={key}
zurl_out_specs=ipc://{{rundir}}/zurl-in
zurl_out_stream_specs=ipc://{{rundir}}/zurl-in-stream
zurl_in_specs=ipc://{{rundir}}/zurl-out

[handler]
push_in_spec=tcp://127.0.0.1:{push}
push_in_sub_specs=ipc://{{rundir}}/publish
command_spec=ipc://{{rundir}}/command
push_in_http_addr=127.0.0.1
push_in_http_port={control}
"""


KEY = "the key by which a proxy of a test signs"


class Pushpin:
    """A GRIP proxy in front of a server on this machine; the addresses outlive a stop."""

    name = "Pushpin"
    variable = "GRIP_URL"

    def __init__(self, directory: Path, backend_port: int) -> None:
        self.program = find_program("pushpin", "pushpin")
        self.directory = directory
        self.backend_port = backend_port
        self.http, self.control, self.push = lasting_ports(3)
        self.runner = Daemon(directory)

    def start(self) -> str:
        """Start it unless it runs, and return the URL that controls it; people use `public_url`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "pushpin.conf"
        ports = {"http": self.http, "control": self.control, "push": self.push}
        config.write_text(CONFIG.format(directory=self.directory, key=KEY, **ports))
        (self.directory / "routes").write_text(f"* 127.0.0.1:{self.backend_port}\n")
        self.runner.start([str(self.program), f"--config={config}", "--merge-output"])
        # A port that is open is not enough: who comes too soon is hung up on.
        self.runner.wait_until(lambda: answers(self.url) and speaks(self.public_url))
        return self.url

    def stop(self) -> None:
        """Its parts end after it, and keep their ports until then."""
        self.runner.stop()
        ports = (self.http, self.control, self.push)
        wait_until(lambda: all(map(is_free, ports)), STOP_TIMEOUT, "Pushpin's ports are free")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.control}"

    @property
    def public_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

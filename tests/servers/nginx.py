from pathlib import Path

from tests.servers.programs import Daemon, find_program, is_free, lasting_ports

CONFIG = """
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path client;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    gzip on;
    gzip_types *;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend_port};
            proxy_http_version 1.1;
            proxy_read_timeout {read_timeout}s;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""


class Nginx:
    """A reverse proxy in front of a server on this machine; it buffers, as nginx does."""

    name = "nginx"
    variable = ""

    def __init__(self, directory: Path, backend_port: int, read_timeout: int = 60) -> None:
        self.program = find_program("nginx", "nginx-light", Path("/usr/sbin"))
        self.directory = directory
        self.backend_port = backend_port
        self.read_timeout = read_timeout
        (self.port,) = lasting_ports(1)
        self.master = Daemon(directory)

    def start(self) -> str:
        """Start it unless it runs, and return its URL."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(
            port=self.port, backend_port=self.backend_port, read_timeout=self.read_timeout
        )
        (self.directory / "nginx.conf").write_text(config)
        prefix, foreground = f"{self.directory}/", "daemon off;"
        self.master.start(
            [str(self.program), "-e", "stderr", "-p", prefix, "-c", "nginx.conf", "-g", foreground]
        )
        self.master.wait_until(lambda: not is_free(self.port))
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.master.stop()

"""Another site: pages of another origin, whose server gets tokens for who is signed in there."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

from tests.pages import Site

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/shop.css"></head>
<body><header id="bar"><h1>Shop</h1></header>
<main><p>Fresh apples, pears and plums.</p></main>
{script}</body>
</html>"""
STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; font-family: Georgia, serif; }
#bar { display: flex; justify-content: space-between; align-items: center; padding: 0.5rem 1rem;
  border-bottom: 1px solid; backdrop-filter: blur(2px); }
main { padding: 1rem; }
"""
NOTES = """
import { BroadcastClient } from "%s/static/broadcast/client.js";
const token = async () => (await (await fetch("/token")).json()).token;
const client = new BroadcastClient({ token });
window.client = client;
window.heard = [];
window.resets = 0;
for (const type of ["MESSAGE", "MESSAGE_REMOVED", "READ_RECEIPT"])
  client.addEventListener(type, ({ detail }) => heard.push(detail.data.title ?? type));
client.addEventListener("RESET", () => (resets += 1));
client.follow(await client.api.messages());
"""
ISSUER = """
from django.contrib.auth.models import Permission, User
shop = User.objects.create_user("shop", password="shop", is_staff=True)
shop.user_permissions.add(Permission.objects.get(codename="issue_token"))
"""


@dataclass
class Elsewhere:
    site: Site
    port: int
    widget: dict[str, str] = field(default_factory=lambda: {"token-url": "/token"})
    """The data attributes of its one tag."""
    signed_in: bool = True

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def answer(self, path: str) -> tuple[str, str]:
        server = self.site.url
        attributes = " ".join(f"data-{name}='{value}'" for name, value in self.widget.items())
        pages = {
            "/": f'<script type="module" src="{server}/static/broadcast/widget.js" {attributes}>'
            "</script>",
            "/notes": '<script type="module" src="/notes.js"></script>',
        }
        if path in pages:
            return "text/html", PAGE.format(script=pages[path])
        if path == "/token":
            return "application/json", self.token()
        texts = {"/notes.js": ("text/javascript", NOTES % server), "/shop.css": ("text/css", STYLE)}
        return texts[path]

    def token(self) -> str:
        request = Request(
            f"{self.site.url}/api/user/sse/token",
            json.dumps({"user": "reader"}).encode(),
            {"Content-Type": "application/json", "Authorization": "Basic c2hvcDpzaG9w"},
        )
        with urlopen(request) as response:
            return str(response.read().decode())

    @property
    def policy(self) -> str:
        """As strict as a site can have it that embeds something."""
        server = self.site.url
        return (
            f"default-src 'none'; script-src 'self' {server}; style-src 'self'; "
            f"connect-src 'self' {server}; img-src data:"
        )


@contextmanager
def serving(elsewhere: Elsewhere) -> Iterator[Elsewhere]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/token" and not elsewhere.signed_in:
                return self.send_error(401)
            try:
                kind, body = elsewhere.answer(self.path)
            except KeyError:
                return self.send_error(404)
            except OSError:  # the server of the broadcasts is away
                return self.send_error(502)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", elsewhere.policy)
            self.end_headers()
            self.wfile.write(body.encode())
            return None

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", elsewhere.port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield elsewhere
        finally:
            server.shutdown()
            thread.join()

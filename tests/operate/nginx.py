"""A real nginx with a page's configuration, without rights and without a directory of the system's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, Self

from tests.cli.site import STOP_S
from tests.programs import NGINX

MAIN: Final = """\
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/site.conf;
}}
"""


class Nginx:
    """It runs while the block lasts.

    Args:
        home: an empty directory.
        site: what stands in `conf.d`.
    """

    def __init__(self, home: Path, site: str) -> None:
        home.mkdir()
        (home / "site.conf").write_text(site)
        self._configuration = home / "nginx.conf"
        self._configuration.write_text(MAIN.format(home=home))
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _command(self) -> list[str]:
        assert NGINX is not None
        return [NGINX, "-p", str(self._home), "-c", str(self._configuration)]

    def check(self) -> str:
        """What `nginx -t` says of it."""
        done = subprocess.run(
            [*self._command, "-t"], capture_output=True, text=True, timeout=STOP_S, check=False
        )
        return done.stderr

    def __enter__(self) -> Self:
        """Start it; a connection waits until it listens."""
        said = self.check()
        assert "test is successful" in said, said
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(STOP_S)

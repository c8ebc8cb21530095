"""A server and the certificates it is trusted by, read anew as they change on disk: clusters replace them in place."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult

from rlscale.deploy.http_link import Place
from rlscale.errors import RlscaleError


@dataclass
class Trusted:
    """Where a server listens. Files are PEM; without `ca_file` the system's authorities count.

    `error` is raised when a file cannot be used.
    """

    url: SplitResult
    error: type[RlscaleError]
    ca_file: str = ""
    client_certificate: str = ""
    client_key: str = ""
    server_name: str = ""  # on the certificate; empty: the host
    _place: Place | None = field(default=None, init=False, repr=False)
    _stamp: tuple[tuple[int, int, int], ...] = field(default=(), init=False, repr=False)

    def place(self) -> Place:
        """The server with certificates as they are on disk now; the same object while they do not change."""
        https = self.url.scheme == "https"
        stamp = tuple(self._stamp_of(name) for name in self._files()) if https else ()
        if self._place is None or stamp != self._stamp:
            port = self.url.port or (443 if https else 80)
            tls = self._context() if https else None
            self._place, self._stamp = Place(self.url.hostname or "", port, tls, self.server_name), stamp
        return self._place

    def _files(self) -> list[str]:
        return [name for name in (self.ca_file, self.client_certificate, self.client_key) if name]

    def _stamp_of(self, name: str) -> tuple[int, int, int]:
        try:
            stat = Path(name).stat()
        except OSError as error:
            why = f"{name}: a certificate cannot be read ({error.strerror}); check access and the volume"
            raise self.error(why) from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.client_certificate:
                context.load_cert_chain(self.client_certificate, self.client_key)
        except (OSError, ssl.SSLError) as error:
            why = f"{', '.join(self._files())}: no usable certificates ({type(error).__name__}); expected PEM files"
            raise self.error(why) from None
        return context

"""An answer that does not say which server it is of."""

from __future__ import annotations

from aiohttp import hdrs, web


class Unbranded(web.Response):
    """One that no application sends, so that no signal of one can take the header `Server` away."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)

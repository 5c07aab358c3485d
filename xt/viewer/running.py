"""A viewer that is running: images, routes, page and server in one."""

from __future__ import annotations

import webbrowser
from html import escape
from types import TracebackType
from typing import Self

from xt.viewer.application import application
from xt.viewer.guard import new_secret
from xt.viewer.page.mount import add_page
from xt.viewer.server import HOST, Server, hosts_of
from xt.viewer.viewer import Viewer

# A browser gives the cookie to a frame only where the frame is asked by the name that the notebook is asked by: this
# machine has two. The address is set once, by the right name: of two requests, the first of which is taken back, the
# second is now and then taken back, too, and the frame stays empty.
_BY_THE_SAME_NAME = """<script>
for (const frame of document.querySelectorAll("iframe[data-xt-view]:not([src])")) {
  const address = new URL(frame.dataset.xtView);
  const names = ["localhost", "127.0.0.1"];
  if (names.includes(location.hostname) && names.includes(address.hostname)) address.hostname = location.hostname;
  frame.src = address.href;
}
</script>"""
_FRAME_HEIGHT = 640


class View:
    """A viewer that is running; in a notebook it shows itself in a frame.

    Attributes:
        viewer: the images and what is known of them.
        server: what answers the browser.
    """

    def __init__(self, viewer: Viewer, host: str = HOST, port: int = 0) -> None:
        secret = new_secret()
        app = application(viewer, hosts=hosts_of(host), secret=secret)
        add_page(app, viewer)
        self.viewer = viewer
        self.server = Server(app, secret, host, port).start()

    @property
    def address(self) -> str:
        """To be opened in a browser; whoever has it may look and correct."""
        return self.server.address

    def open_browser(self) -> bool:
        """Show it in the browser of this machine; whether there is one."""
        return webbrowser.open(self.address)

    def wait(self) -> None:
        """Until it is closed or interrupted."""
        self.server.wait()

    def close(self) -> None:
        self.viewer.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View of {len(self.viewer.entries)} images at {self.address}>"

    def _repr_html_(self) -> str:
        address = escape(self.address, quote=True)
        style = f"width: 100%; height: {_FRAME_HEIGHT}px; border: 1px solid #ddd; border-radius: 6px"
        frame = f'<iframe data-xt-view="{address}" style="{style}" title="xt view"></iframe>'
        return f'{frame}{_BY_THE_SAME_NAME}<noscript><a href="{address}">xt view</a></noscript>'

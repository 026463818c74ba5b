"""The shop's web server, in threads of this process: nothing is left behind when the process ends."""

import threading

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management.base import CommandError
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

HOST = "127.0.0.1"


class Website:
    """The shop at a port; the port is taken at once, so that a taken one is known before anything is started."""

    def __init__(self, port: int) -> None:
        try:
            self._server = ThreadedWSGIServer((HOST, port), WSGIRequestHandler)
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"Port {port} cannot be used: {str(error).rstrip('.')}.\nChoose another one: python manage.py demo --port 8001"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def url(self) -> str:
        """Return where the shop is."""
        return f"http://{HOST}:{self._server.server_port}/"

    def start(self) -> None:
        """Serve the shop."""
        self._server.set_app(StaticFilesHandler(WSGIHandler()))
        self._thread.start()

    def close(self) -> None:
        """Give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

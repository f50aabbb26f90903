"""An S3 server on loopback, and a line to it that can be cut in the middle of an upload."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "ours", "AWS_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3 server as a process of its own; yields its address."""
    command = [sys.executable, "-W", "ignore", "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            # moto says that it starts before it says where it is.
            yield next(line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            process.kill()


def access(address: str) -> dict[str, str]:
    """The environment in which a bucket's URL leads to a server of one's own."""
    return CREDENTIALS | {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}


def client(address: str):
    """The vendor's own client of a server, to look at it past our code."""
    import boto3

    names = {"aws_access_key_id": "ours", "aws_secret_access_key": "ours", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=address, **names)


class Line:
    """A relay to a server that lets the first `bytes_until_held` bytes of each upload through, and then no more."""

    def __init__(self, address: str, *, bytes_until_held: int) -> None:
        target = urlparse(address)
        self._target = (target.hostname, target.port)
        self._limit = bytes_until_held
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            threading.Thread(target=self._pass_on, args=(near, far, self._limit), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, None), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                allowed = data if limit is None else data[: max(0, limit - passed)]
                passed += len(data)
                if allowed:
                    sink.sendall(allowed)
                if limit is not None and passed > limit:
                    self.held.set()
        except OSError:
            pass
        finally:
            # As an operating system does for a process that has ended.
            sink.close()


def environment(address: str) -> dict[str, str]:
    """This process's environment, with access to a server."""
    return os.environ | access(address)

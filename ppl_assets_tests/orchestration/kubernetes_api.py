"""A Kubernetes API on loopback with one node: it takes Jobs, runs their container as a process, and says how it went.

Of the API it serves what Dagster's launcher and executor ask for: jobs (create, status, delete) and the pod that asks.
Images, volumes and scheduling are not there; what a Job asks for is kept as it was posted, for the test to look at.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


class Cluster:
    """The jobs that were posted, by name, and the processes that are their pods."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self.environment, self.logs = environment, logs
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, subprocess.Popen] = {}

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Start a job's container with the variables that its specification names."""
        name, (container,) = job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"]
        stated = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        with (self.logs / f"{name}.log").open("w") as log:
            self.pods[name] = subprocess.Popen(
                container["args"],
                env=self.environment | stated | {"HOSTNAME": name},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs[name] = job
        return job

    def status(self, name: str) -> dict[str, Any]:
        """A job with what became of its pod."""
        code = self.pods[name].poll()
        counts = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return self.jobs[name] | {"status": counts}

    def delete(self, name: str) -> None:
        """End a job's pod, as a kubelet does."""
        if self.pods[name].poll() is None:
            os.killpg(self.pods[name].pid, signal.SIGTERM)
            self.pods[name].wait()


@contextmanager
def kubernetes_api(folder: Path, environment: dict[str, str]) -> Iterator[tuple[Cluster, Path]]:
    """A cluster, and the kubeconfig that leads to it; pods get `environment` besides what their job states."""
    cluster = Cluster(environment, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = folder / "kubeconfig.yaml"
    kubeconfig.write_text(_kubeconfig(f"http://127.0.0.1:{server.server_port}"))
    try:
        yield cluster, kubeconfig
    finally:
        for name in cluster.pods:
            cluster.delete(name)
        server.shutdown()
        server.server_close()


def _kubeconfig(url: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "dagster"}}],
            "users": [{"name": "me", "user": {}}],
        }
    )


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path.split("?")[0] == "/apis/batch/v1/namespaces/dagster/jobs", self.path
            self._answer(201, cluster.create(body))

        def do_GET(self) -> None:
            *_, kind, name = self.path.removesuffix("/status").split("?")[0].split("/")
            if kind == "jobs" and name in cluster.jobs:
                self._answer(200, cluster.status(name))
            elif kind == "pods":
                metadata = {"name": name, "namespace": "dagster", "uid": f"uid-of-{name}"}
                self._answer(200, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
            else:
                self._answer(404, {"kind": "Status", "status": "Failure", "code": 404})

        def do_DELETE(self) -> None:
            cluster.delete(self.path.split("?")[0].rpartition("/")[2])
            self._answer(200, {"kind": "Status", "status": "Success"})

        def _answer(self, code: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler

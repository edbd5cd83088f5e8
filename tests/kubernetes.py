"""As much of Kubernetes as a test needs: what a pod runs, and an API that knows some Secrets."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Manifest = dict[str, Any]


def only(manifests: list[Manifest], kind: str, component: str = "") -> Manifest:
    """The one manifest of a kind, and of a component if there are several."""
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind
        and component in ("", manifest["metadata"]["labels"]["app.kubernetes.io/component"])
    )
    return found


def container(workload: Manifest) -> Manifest:
    """The one container of a Deployment, a Job or a StatefulSet."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environ(container: Manifest, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The environment of a container, in a namespace with these Secrets."""
    found = {}
    for variable in container["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = secrets[reference["name"]][reference["key"]]
    return found


def probed_url(container: Manifest, probe: str) -> str:
    """Where a probe of a container asks, on this machine."""
    asked = container[f"{probe}Probe"]["httpGet"]
    (port,) = (port for port in container["ports"] if port["name"] == asked["port"])
    return f"http://127.0.0.1:{port['containerPort']}{asked['path']}"


@contextmanager
def api(namespace: str, secrets: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """An API that has these Secrets and nothing else; the kubeconfig that leads to it."""
    answers: dict[str, Manifest] = {
        "/api/v1": {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": []}],
        }
    }
    for name, data in secrets.items():
        answers[f"/api/v1/namespaces/{namespace}/secrets/{name}"] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
        }

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            missing = {"apiVersion": "v1", "kind": "Status", "reason": "NotFound", "code": 404}
            body = json.dumps(answer or missing).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            cluster = {"server": f"http://127.0.0.1:{server.server_port}"}
            yield json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "test", "user": {}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "current-context": "test",
                }
            )
        finally:
            server.shutdown()
            thread.join()

"""A stand-in for kube-apiserver, to which a real kubectl applies manifests where no cluster can run.

It answers discovery, get, list, delete and server-side apply (`kubectl apply --server-side --validate=false`), and
refuses what a strict API server would (`kube_schemas`). It keeps objects in memory, merges nothing and runs no
controllers.
"""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web
from kube_schemas import refused
from kube_tools import Loader

Object = dict[str, Any]

KINDS: dict[tuple[str, str], dict[str, str]] = {
    ("", "v1"): {
        "ConfigMap": "configmaps",
        "Namespace": "namespaces",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    ("apps", "v1"): {"StatefulSet": "statefulsets"},
    ("monitoring.coreos.com", "v1"): {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"},
    ("networking.k8s.io", "v1"): {"NetworkPolicy": "networkpolicies"},
    ("policy", "v1"): {"PodDisruptionBudget": "poddisruptionbudgets"},
    ("ray.io", "v1"): {"RayCluster": "rayclusters", "RayJob": "rayjobs"},
}

Key = tuple[str, str, str, str]
"""Group, plural, namespace and name of an object."""


@dataclass
class FakeApiServer:
    """What was applied, by where it was, and what has been deleted since; `url` is for kubectl's `--server`."""

    url: str
    objects: dict[Key, Object] = field(default_factory=dict)
    deleted: list[Key] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """One request of kubectl's."""
        parts = request.path.strip("/").split("/")
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64"})
        if request.path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()})
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        if (group, version) not in KINDS:
            return _failure(404, "NotFound", f"no such API {group}/{version}")
        if not rest:
            return _discovery(group, version)
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if rest[0] not in KINDS[group, version].values():
            return _failure(404, "NotFound", f"no such resource {rest[0]}")
        return await self._object(request, (group, rest[0], namespace, rest[1] if len(rest) > 1 else ""))

    async def _object(self, request: web.Request, key: Key) -> web.Response:
        if request.method == "GET":
            if key in self.objects:
                return web.json_response(self.objects[key])
            return _failure(404, "NotFound", f'{key[1]} "{key[3]}" not found')
        if request.method == "DELETE":
            if self.objects.pop(key, None) is None:
                return _failure(404, "NotFound", f'{key[1]} "{key[3]}" not found')
            self.deleted.append(key)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        thing: Object = yaml.load(await request.text(), Loader)
        if found := refused(thing):
            return _failure(422, "Invalid", f'{thing["kind"]} "{key[3]}" is invalid: ' + "; ".join(found[:8]))
        new = key not in self.objects
        thing["metadata"].update(
            uid=str(uuid.uuid4()),
            creationTimestamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            resourceVersion="1",
            **({"namespace": key[2]} if key[2] else {}),
        )
        self.objects[key] = thing
        return web.json_response(thing, status=201 if new else 200)


@asynccontextmanager
async def api_server() -> AsyncIterator[FakeApiServer]:
    """One that listens at a free port of this machine."""
    server = FakeApiServer("")
    application = web.Application(client_max_size=8 << 20)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def _failure(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.json_response({**status, "code": code, "reason": reason, "message": message}, status=code)


def _groups() -> list[Object]:
    found = []
    for group, version in KINDS:
        named = {"groupVersion": f"{group}/{version}", "version": version}
        if group:
            found.append({"name": group, "versions": [named], "preferredVersion": named})
    return found


def _discovery(group: str, version: str) -> web.Response:
    rows = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": kind != "Namespace",
            "kind": kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
        for kind, plural in KINDS[group, version].items()
    ]
    named = f"{group}/{version}" if group else version
    return web.json_response({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": rows})

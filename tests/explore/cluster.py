"""A Flyte cluster as far as its command line sees it: three of its services over HTTP, by the SDK's own definitions.

    python cluster.py RUNS.json PORT_FILE

RUNS.json: ``{run: {action: {output: value}}}``; a value is a locator (as the volume's own literal), any JSON, or null
for an action that has not ended.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgpack
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.cluster import payload_pb2, service_connect
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.core import literals_pb2
from flyteidl2.dataproxy import dataproxy_service_connect, dataproxy_service_pb2
from flyteidl2.task import common_pb2
from flyteidl2.workflow import run_definition_pb2, run_service_connect, run_service_pb2


class Runs(run_service_connect.RunServiceSync):
    def __init__(self, runs: dict[str, dict[str, Any]]) -> None:
        self._runs = runs

    def get_run_details(self, request: Any, ctx: Any) -> Any:
        self._actions(request.run_id)
        details = self._details(identifier_pb2.ActionIdentifier(run=request.run_id, name="a0"))
        return run_service_pb2.GetRunDetailsResponse(details=run_definition_pb2.RunDetails(action=details))

    def get_action_details(self, request: Any, ctx: Any) -> Any:
        return run_service_pb2.GetActionDetailsResponse(details=self._details(request.action_id))

    def list_actions(self, request: Any, ctx: Any) -> Any:
        names = self._actions(request.run_id)
        ids = [identifier_pb2.ActionIdentifier(run=request.run_id, name=name) for name in names]
        return run_service_pb2.ListActionsResponse(actions=[run_definition_pb2.Action(id=one) for one in ids])

    def outputs(self, action: Any) -> dict[str, Any]:
        return self._actions(action.run).get(action.name) or {}

    def _actions(self, run: Any) -> dict[str, Any]:
        if run.name not in self._runs:
            raise ConnectError(Code.NOT_FOUND, f"run {run.name} not found")
        return self._runs[run.name]

    def _details(self, action: Any) -> Any:
        if action.name not in self._actions(action.run):
            raise ConnectError(Code.NOT_FOUND, f"action {action.name} not found")
        ended = self._actions(action.run)[action.name] is not None
        phase = phase_pb2.ACTION_PHASE_SUCCEEDED if ended else phase_pb2.ACTION_PHASE_RUNNING
        return run_definition_pb2.ActionDetails(id=action, status=run_definition_pb2.ActionStatus(phase=phase))


class Data(dataproxy_service_connect.DataProxyServiceSync):
    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def get_action_data(self, request: Any, ctx: Any) -> Any:
        named = [
            common_pb2.NamedLiteral(name=name, value=literal(value))
            for name, value in self._runs.outputs(request.action_id).items()
        ]
        return dataproxy_service_pb2.GetActionDataResponse(outputs=common_pb2.Outputs(literals=named))


class Clusters(service_connect.ClusterServiceSync):
    def select_cluster(self, request: Any, ctx: Any) -> Any:
        return payload_pb2.SelectClusterResponse()  # this one


def literal(value: Any) -> Any:
    if isinstance(value, list):
        return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=map(literal, value)))
    if isinstance(value, str) and "/versions/" in value:
        value = {"locator": value}
    binary = literals_pb2.Binary(value=msgpack.packb(value), tag="msgpack")
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(binary=binary))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a client may hold connections that it does not use


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def serve(runs: dict[str, dict[str, Any]], port_file: Path) -> None:
    service = Runs(runs)
    applications = [
        run_service_connect.RunServiceWSGIApplication(service),
        dataproxy_service_connect.DataProxyServiceWSGIApplication(Data(service)),
        service_connect.ClusterServiceWSGIApplication(Clusters()),
    ]

    def application(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        found = next((one for one in applications if path.startswith(one.path + "/")), None)
        if found is None:
            start_response("404 Not Found", [])
            return []
        # whole: a service that refuses a request reads it to its end, which a socket does not tell
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return found({**environ, "wsgi.input": io.BytesIO(body)}, start_response)

    with make_server("127.0.0.1", 0, application, _Server, _Quiet) as server:
        port_file.with_suffix(".new").write_text(str(server.server_port))
        port_file.with_suffix(".new").rename(port_file)
        server.serve_forever()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))

"""What a test needs to know of a running server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from botocore.config import Config

from flyteplugins_vol.config import StoreOptions


@dataclass(frozen=True)
class S3Server:
    """Speaks S3 at ``endpoint``."""

    endpoint: str
    access_key_id: str = "testaccess"
    secret_access_key: str = field(default="testsecret00", repr=False)
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The usual variables, for a process that is to find the server by itself."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
        }

    def options(self, backend: str = "auto", **config: str) -> StoreOptions:
        """Options that reach the server without any environment; ``config`` changes some."""
        given = {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
        }
        return StoreOptions(backend=backend, config={**given, **config}, retries=3, timeout=60)

    def new_bucket_url(self, prefix: str = "") -> str:
        """The URL of a store in a new, empty bucket."""
        bucket = f"test-{uuid4().hex[:16]}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return f"s3://{bucket}/{prefix}".rstrip("/")


@dataclass(frozen=True)
class AzureServer:
    """Speaks Azure Blob Storage at ``endpoint``."""

    endpoint: str
    account_name: str
    account_key: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
            "AZURE_STORAGE_ACCOUNT_NAME": self.account_name,
            "AZURE_STORAGE_ACCOUNT_KEY": self.account_key,
        }

    def options(self) -> StoreOptions:
        config = {"endpoint": self.endpoint, "account_name": self.account_name, "account_key": self.account_key}
        return StoreOptions(config=config, retries=3, timeout=60)

    def new_container_url(self, prefix: str = "") -> str:
        """The URL of a store in a new, empty container."""
        container = f"test-{uuid4().hex[:16]}"
        parts = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02", "Content-Length": "0"}
        path = f"{parts.path}/{container}"
        headers["Authorization"] = self._signature(path, headers)
        connection.request("PUT", f"{path}?restype=container", headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 201:
            raise RuntimeError(f"no container: {answer.status} {text[:500]!r}")
        return f"abfs://{container}/{prefix}".rstrip("/")

    def _signature(self, path: str, headers: dict[str, str]) -> str:
        """Shared Key: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""
        ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-ms-"))
        text = "PUT" + "\n" * 12 + ours + f"/{self.account_name}{path}\nrestype:container"
        mac = hmac.new(base64.b64decode(self.account_key), text.encode(), hashlib.sha256)
        return f"SharedKey {self.account_name}:{base64.b64encode(mac.digest()).decode()}"


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(endpoint: str) -> bool:
    """Whether HTTP is spoken there already, with any status under 500."""
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(
    ready: Callable[[], bool], log: Path, *, process: subprocess.Popen[bytes] | None = None, seconds: float = 90
) -> None:
    """Poll until ``ready``; what the log says is in the error if that does not come."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            text = log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
            raise RuntimeError(f"the server did not start:\n{text}")
        time.sleep(0.05)

"""Ceph's RADOS Gateway: a strict and fast S3 server; one monitor, one OSD and one gateway below a directory.

Debian: ``apt-get install ceph-mon ceph-osd radosgw ceph-common``, as root. Up in some 20 seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .server import S3Server, answers, free_port, wait_until

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
mon_data = {dir}/mon
osd_data = {dir}/osd
run_dir = {dir}
admin_socket = {dir}/$name.asok
pid_file = {dir}/$name.pid
log_file = {dir}/$name.log
mon_cluster_log_file = {dir}/cluster.log
crash_dir = {dir}
# one of each, so no copies
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_memory_target = 939524096
bluestore_block_size = 10737418240
[client.admin]
keyring = {dir}/admin.keyring
[client.rgw.a]
keyring = {dir}/rgw.keyring
rgw_data = {dir}
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
"""


def radosgw_missing() -> str:
    """Why it cannot be started; '' if it can."""
    lacking = [program for program in _PROGRAMS if not shutil.which(program)]
    if lacking:
        return f"{', '.join(lacking)} missing: apt-get install ceph-mon ceph-osd radosgw ceph-common"
    return "" if os.geteuid() == 0 else "the gateway is started as root"


@contextmanager
def radosgw_server(port: int = 0) -> Iterator[S3Server]:
    """The cluster, in processes of its own, with its data in a temporary directory."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="rgw-", ignore_cleanup_errors=True) as name:
        cluster = _Cluster(Path(name), port)
        server = S3Server(f"http://127.0.0.1:{port}")
        try:
            cluster.start_monitor()
            cluster.start_osd()
            cluster.start_gateway(server)
            wait_until(lambda: answers(server.endpoint), cluster.dir / "client.rgw.a.log")
            yield server
        finally:
            cluster.stop()


class _Cluster:
    def __init__(self, directory: Path, port: int) -> None:
        self.dir = directory
        self._fsid = str(uuid4())
        self._mon_port = free_port()
        text = _CONFIGURATION.format(
            fsid=self._fsid, dir=directory, port=port, mon_port=self._mon_port, old_mon_port=free_port()
        )
        (directory / "ceph.conf").write_text(text)
        (directory / "mon").mkdir()
        (directory / "osd").mkdir()

    def start_monitor(self) -> None:
        admin, mon, map_ = (str(self.dir / name) for name in ("admin.keyring", "mon.keyring", "monmap"))
        self._run("ceph-authtool", "--create-keyring", mon, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
        self._run("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", *caps)
        self._run("ceph-authtool", mon, "--import-keyring", admin)
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--clobber", "--fsid", self._fsid, "--addv", "a", address, map_)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", map_, "--keyring", mon)
        self._run("ceph-mon", "-i", "a")

    def start_osd(self) -> None:
        uuid = str(uuid4())
        key = self._run("ceph-authtool", "--gen-print-key").strip()
        secret = self.dir / "osd.json"
        secret.write_text(f'{{"cephx_secret": "{key}"}}')
        self._run("ceph", "osd", "new", uuid, "-i", str(secret))
        keyring = str(self.dir / "osd" / "keyring")
        self._run("ceph-authtool", "--create-keyring", keyring, "--name", "osd.0", "--add-key", key)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        self._run("ceph-osd", "-i", "0")
        wait_until(lambda: "1 up" in self._run("ceph", "osd", "stat"), self.dir / "osd.0.log")

    def start_gateway(self, server: S3Server) -> None:
        keyring = str(self.dir / "rgw.keyring")
        self._run("ceph", "auth", "get-or-create", "client.rgw.a", "mon", "allow rw", "osd", "allow rwx", "-o", keyring)
        keys = ["--access-key", server.access_key_id, "--secret-key", server.secret_access_key]
        self._run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        self._run("radosgw", "-n", "client.rgw.a")

    def stop(self) -> None:
        """By the process ids that the daemons wrote; the data is thrown away, so nobody is asked twice."""
        for name in ("client.rgw.a", "osd.0", "mon.a"):
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(int((self.dir / f"{name}.pid").read_text()), signal.SIGKILL)

    def _run(self, *command: str) -> str:
        environment = {**os.environ, "CEPH_CONF": str(self.dir / "ceph.conf")}
        done = subprocess.run(command, env=environment, cwd=self.dir, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr[-1000:]}")
        return done.stdout

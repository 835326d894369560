"""Programs that people run, on a volume: what they made is right, is in the next version, and the version is right.

``WORKLOADS=long`` gives each minutes where it has seconds.
"""

from __future__ import annotations

import compileall
import contextlib
import filecmp
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume
from tests.posix.conftest import mounted_volume

pytestmark = pytest.mark.fuse

LONG = os.environ.get("WORKLOADS") == "long"
STDLIB = Path(sysconfig.get_path("stdlib"))
PACKAGES = ["asyncio", "concurrent", "ctypes", "email", "encodings", "http", "importlib", "json", "logging", "xml"]


@pytest.fixture
def volume() -> Iterator[tuple[RWVolume, Path]]:
    with mounted_volume() as mounted:
        yield mounted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Some hundred real files."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "test*")
        shutil.copytree(STDLIB / package, tmp_path / "source" / package, ignore=ignored, symlinks=True)
    return tmp_path / "source"


def run(*command: object, cwd: Path | None = None, timeout: float = 100, **env: str) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@contextlib.contextmanager
def published(volume: RWVolume, root: Path) -> Iterator[Path]:
    """The volume as its next version shows it."""
    version = volume.finalize.sync()
    path = version.mount.sync(root.parent / "version", cache_dir=root.parent / "cache")
    try:
        yield path
    finally:
        version.unmount.sync()


def same(a: Path, b: Path) -> bool:
    """Whether two trees have the same names and bytes."""
    compared = filecmp.dircmp(a, b, ignore=[], hide=[])
    if compared.left_only or compared.right_only or compared.funny_files:
        return False
    _, differ, failed = filecmp.cmpfiles(a, b, compared.common_files, shallow=False)
    return not differ and not failed and all(same(a / name, b / name) for name in compared.common_dirs)


def test_git(volume: tuple[RWVolume, Path], source: Path) -> None:
    needs("git")
    vol, root = volume
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "gc.auto=0", "-c", "init.defaultBranch=main"]

    def git(*arguments: object, cwd: Path) -> str:
        return run("git", *me, "-c", "safe.directory=*", *arguments, cwd=cwd)

    git("init", "-q", cwd=source)
    git("add", "-A", cwd=source)
    git("commit", "-qm", "first", cwd=source)
    git("clone", "-q", "--no-hardlinks", source, root / "clone", cwd=root)
    clone = root / "clone"
    for number in range(20):
        (clone / "json" / f"new{number}.py").write_text(f"{number}\n")
        git("add", "-A", cwd=clone)
        git("commit", "-qm", f"number {number}", cwd=clone)
    git("fsck", "--full", "--strict", cwd=clone)
    git("gc", "-q", "--aggressive", "--prune=now", cwd=clone)
    git("fsck", "--full", "--strict", cwd=clone)
    git("checkout", "-q", "HEAD~20", cwd=clone)
    git("checkout", "-q", "main", cwd=clone)
    assert git("status", "--porcelain", cwd=clone) == ""
    with published(vol, root) as version:
        git("fsck", "--full", "--strict", cwd=version / "clone")
        assert len(git("log", "--oneline", cwd=version / "clone").splitlines()) == 21


def test_cp_rsync_and_tar(volume: tuple[RWVolume, Path], source: Path) -> None:
    needs("rsync", "tar")
    vol, root = volume
    (source / "link").symlink_to("json")
    os.link(source / "json" / "decoder.py", source / "second name")
    os.utime(source / "xml", ns=(1, 1_234_567_890_123_456_789))
    run("cp", "-a", source, root / "cp")
    run("rsync", "-aH", f"{source}/", root / "rsync")
    run("tar", "-C", source, "-cf", root / "all.tar", ".")
    (root / "tar").mkdir()
    run("tar", "-C", root / "tar", "-xpf", root / "all.tar")
    with published(vol, root) as version:
        for tool in ("cp", "rsync"):
            assert same(source, version / tool)
            assert run("rsync", "-aHcni", "--delete", f"{source}/", f"{version / tool}/") == ""
        run("tar", "-C", version / "tar", "-df", version / "all.tar")
        assert (version / "cp" / "xml").stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_make(volume: tuple[RWVolume, Path]) -> None:
    needs("make", "gcc", "ar")
    vol, root = volume
    for number in range(20):
        (root / f"part{number}.c").write_text(f'#include "all.h"\nint part{number}(void) {{ return BASE+{number}; }}\n')
    prototypes = "".join(f"int part{number}(void);\n" for number in range(20))
    (root / "all.h").write_text("#define BASE 0\n" + prototypes)
    calls = " + ".join(f"part{number}()" for number in range(20))
    main = f'int main(void) {{ printf("%d\\n", {calls}); }}'
    (root / "main.c").write_text(f'#include <stdio.h>\n#include "all.h"\n{main}\n')
    (root / "Makefile").write_text(
        "PARTS := $(patsubst %.c,%.o,$(wildcard part*.c))\n"
        "program: main.o libparts.a\n\tgcc -o $@ $^\n"
        "libparts.a: $(PARTS)\n\tar rcs $@ $^\n"
        "%.o: %.c all.h\n\tgcc -g -c -o $@ $<\n"
    )
    run("make", "-j2", cwd=root)
    assert run(root / "program").strip() == str(sum(range(20)))
    assert "up to date" in run("make", cwd=root)
    os.utime(root / "part3.c")
    assert run("make", cwd=root).count("gcc -g -c") == 1
    (root / "all.h").write_text("#define BASE 1\n" + prototypes)
    run("make", "-j2", cwd=root)
    assert run(root / "program").strip() == str(sum(range(20)) + 20)
    with published(vol, root) as version:
        assert run(version / "program").strip() == str(sum(range(20)) + 20)


def from_npm(package: str, to: Path) -> Path:
    """The unpacked package; skips where npm, or its registry, cannot be reached."""
    needs("npm", "tar")
    to.mkdir()
    found = subprocess.run(["npm", "pack", "--silent", package], cwd=to, capture_output=True, text=True, timeout=100)
    if found.returncode != 0:
        pytest.skip("no npm registry can be reached")
    run("tar", "-xf", found.stdout.split()[-1], cwd=to)
    return to / "package"


@pytest.mark.slow
def test_make_of_a_c_library(volume: tuple[RWVolume, Path]) -> None:
    """hiredis, which a package of npm's has with it: objects, an archive, a shared library, a program; made anew."""
    needs("make", "gcc", "ar")
    vol, root = volume
    source = from_npm("hiredis@0.5.0", root.parent / "npm") / "deps" / "hiredis"
    shutil.copytree(source, root / "hiredis")
    run("make", "-j2", cwd=root / "hiredis", timeout=300)
    assert "Nothing to be done" in run("make", cwd=root / "hiredis")
    os.utime(root / "hiredis" / "dict.h")
    made = run("make", cwd=root / "hiredis", timeout=300)
    assert "async.c" in made
    assert "net.c" not in made
    load = "import ctypes, sys; print(bool(ctypes.CDLL(sys.argv[1]).redisReaderCreate()))"
    with published(vol, root) as version:
        assert run(sys.executable, "-c", load, version / "hiredis" / "libhiredis.so").strip() == "True"
        members = run("ar", "t", version / "hiredis" / "libhiredis.a").split()
        assert {"net.o", "hiredis.o", "sds.o"} <= set(members)


FRONT_END = {
    "package.json": """{"name": "shop", "private": true, "type": "module",
        "dependencies": {"react": "^18", "react-dom": "^18", "react-router-dom": "^6"},
        "devDependencies": {"vite": "^5", "@vitejs/plugin-react": "^4", "typescript": "^5"}}""",
    "index.html": """<div id="root"></div><script type="module" src="/src/main.jsx"></script>""",
    "vite.config.js": """import react from "@vitejs/plugin-react"; export default { plugins: [react()] };""",
    "src/main.jsx": """import { createRoot } from "react-dom/client";
        import { BrowserRouter } from "react-router-dom";
        createRoot(document.getElementById("root")).render(<BrowserRouter><h1>It is built</h1></BrowserRouter>);""",
    "render.mjs": """import React from "react"; import { renderToString } from "react-dom/server";
        console.log(renderToString(React.createElement("h1", null, "It is rendered")));""",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_npm_install_and_a_build_of_a_front_end(volume: tuple[RWVolume, Path]) -> None:
    """66 packages, 2,700 files, two of them native programs; then a bundle, and a run of the version."""
    from_npm("is-number@7.0.0", volume[1].parent / "npm")
    vol, root = volume
    project = root / "project"
    for name, text in FRONT_END.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    run("npm", "install", "--no-audit", "--no-fund", cwd=project, timeout=400)
    run("npm", "ls", "--all", cwd=project)
    run("npx", "--no-install", "vite", "build", cwd=project, timeout=200)
    (bundle,) = (project / "dist" / "assets").glob("*.js")
    assert "It is built" in bundle.read_text()
    if LONG:
        shutil.rmtree(project / "node_modules")
        run("npm", "install", "--no-audit", "--no-fund", "--prefer-offline", cwd=project, timeout=400)
    with published(vol, root) as version:
        assert "It is rendered" in run("node", version / "project" / "render.mjs", cwd=version / "project")


INSERTS = """
import sqlite3, sys
path, journal, writer = sys.argv[1:]
sql = sqlite3.connect(path, timeout=60, isolation_level=None)
sql.execute(f"PRAGMA journal_mode={journal}")
sql.execute("PRAGMA synchronous=EXTRA")  # the removal of a rollback journal, too
for number in range(100_000):
    sql.execute("BEGIN IMMEDIATE")
    sql.execute("INSERT INTO t VALUES (?, ?, ?)", (writer, number, bytes(number % 3000)))
    sql.execute("UPDATE total SET n = n + 1")
    sql.execute("COMMIT")
    print(f"{writer} {number}", flush=True)
"""


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite_with_writers_that_are_killed(volume: tuple[RWVolume, Path], journal: str) -> None:
    vol, root = volume
    path = root / "data.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as sql:
        assert sql.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
        sql.execute("CREATE TABLE t (writer TEXT, number INT, data BLOB, PRIMARY KEY (writer, number))")
        sql.execute("CREATE TABLE total (n INT)")
        sql.execute("INSERT INTO total VALUES (0)")
    acknowledged: dict[str, int] = {}
    for round_ in range(3):
        for line in _killed_in_the_middle(path, journal, [f"{round_}-{which}" for which in "ab"]):
            name, number = line.split()
            acknowledged[name] = max(acknowledged.get(name, 0), int(number))
        _check(path, acknowledged)
    with published(vol, root) as version:
        shutil.copytree(version, root.parent / "copy")
    _check(root.parent / "copy" / "data.db", acknowledged)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_when_the_daemon_is_killed(volume: tuple[RWVolume, Path], journal: str) -> None:
    """What SQLite was told is on disk is there when the volume is mounted again."""
    vol, root = volume
    path = root / "data.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as sql:
        assert sql.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
        sql.execute("CREATE TABLE t (writer TEXT, number INT, data BLOB, PRIMARY KEY (writer, number))")
        sql.execute("CREATE TABLE total (n INT)")
        sql.execute("INSERT INTO total VALUES (0)")
    with subprocess.Popen([sys.executable, "-c", INSERTS, path, journal, "a"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        told = [next(writer.stdout) for _ in range(20)]
        os.kill(vol.status()["pid"], signal.SIGKILL)
        told += [line for line in writer.stdout if line.endswith(b"\n")]
    while vol.mount_path is not None:
        time.sleep(0.01)
    assert vol.mount.sync(root, cache_dir=root.parent / "cache", meta_dir=root.parent / "meta") == root
    _check(path, {"a": int(told[-1].split()[1])})


def _killed_in_the_middle(path: Path, journal: str, names: list[str]) -> list[str]:
    """What two writers at once were told is committed, before and up to their end."""
    ours, theirs = os.pipe()
    command = [sys.executable, "-c", INSERTS, path, journal]
    writers = [subprocess.Popen([*command, name], stdout=theirs) for name in names]
    os.close(theirs)
    with open(ours) as answers:
        told = [next(answers) for _ in range(40)]
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        return [*told, *(line for line in answers if line.endswith("\n"))]


def _check(path: Path, acknowledged: dict[str, int]) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = dict(sql.execute("SELECT writer, max(number) FROM t GROUP BY writer"))
        assert all(kept[name] >= number for name, number in acknowledged.items())
        assert sql.execute("SELECT count(*) FROM t").fetchone() == sql.execute("SELECT n FROM total").fetchone()


def test_processes_and_threads_on_one_tree(volume: tuple[RWVolume, Path], source: Path) -> None:
    vol, root = volume
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(3):
                place = root / f"{number}"
                shutil.copytree(source, place)
                assert same(source, place)
                assert compileall.compile_dir(place / "json", quiet=2)
                place.rename(root / f"done-{number}")
                shutil.rmtree(root / f"done-{number}")
            shutil.copytree(source, root / f"{number}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    run("sh", "-c", f"for i in 1 2 3; do cp -a '{source}' x && rm -r x; done; cp -a '{source}' sh", cwd=root)
    for thread in threads:
        thread.join()
    assert failures == []
    with published(vol, root) as version:
        assert sorted(os.listdir(version)) == ["0", "1", "2", "sh"]
        assert all(same(source, version / name) for name in os.listdir(version))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pip_install_of_numpy_and_pandas(volume: tuple[RWVolume, Path]) -> None:
    """From the package index that pip is set up with; skipped where there is none."""
    vol, root = volume
    run(sys.executable, "-m", "venv", root / "venv", timeout=200)
    pip = [root / "venv" / "bin" / "pip", "--disable-pip-version-check", "--no-cache-dir"]
    found = subprocess.run([*pip, "download", "-q", "--no-deps", "-d", root.parent / "try", "six"], timeout=100)
    if found.returncode != 0:
        pytest.skip("no package index can be reached")
    run(*pip, "install", "-q", "numpy", "pandas", timeout=400)
    script = "import numpy, pandas; print(int(pandas.DataFrame(numpy.ones((10, 10))).sum().sum()))"
    assert run(root / "venv" / "bin" / "python", "-c", script).strip() == "100"
    run(*pip, "check")
    with published(vol, root) as version:
        (packages,) = version.glob("venv/lib/python*/site-packages")
        isolated = f"import sys; sys.path.insert(0, {str(packages)!r}); {script}"
        assert run(sys.executable, "-I", "-c", isolated).strip() == "100"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_postgresql_through_an_immediate_stop() -> None:
    """initdb, pgbench with four clients, `pg_ctl stop -m immediate`, recovery; then a start from the version."""
    found = [Path(place) for place in os.get_exec_path()] + list(Path("/usr/lib/postgresql").glob("*/bin"))
    wanted = ("initdb", "pg_ctl", "psql", "pgbench", "pg_checksums")
    programs = next((place for place in found if all((place / program).exists() for program in wanted)), None)
    if programs is None or os.geteuid() != 0:
        pytest.skip("needs PostgreSQL with pgbench, and root: PostgreSQL runs as somebody else")
    with mounted_volume(allow_other=True) as (vol, root):
        sockets = root.parent / "sockets"
        sockets.mkdir()
        sockets.chmod(0o777)

        def pg(program: str, *arguments: object) -> str:
            nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
            return run(*nobody, programs / program, *arguments, cwd=sockets, HOME=str(sockets), LC_ALL="C")

        @contextlib.contextmanager
        def running(data: Path, then: str) -> Iterator[None]:
            pg("pg_ctl", "-w", "-D", data, "-l", sockets / "log", "-o", f"-k {sockets} -h ''", "start")
            try:
                yield
            finally:
                pg("pg_ctl", "-w", "-D", data, "-m", then, "stop")

        def sql(query: str) -> str:
            return pg("psql", "-h", sockets, "-U", "me", "-Atc", query, "postgres").strip()

        (root / "data").mkdir()
        shutil.chown(root / "data", "nobody", "nogroup")
        pg("initdb", "-U", "me", "-D", root / "data", "--data-checksums")
        with running(root / "data", then="immediate"):
            pg("pgbench", "-h", sockets, "-U", "me", "-i", "-s", "1", "-q", "postgres")
            pg("pgbench", "-h", sockets, "-U", "me", "-c", "4", "-T", "5", "postgres")
            before = sql("SELECT count(*) FROM pgbench_history")
        with running(root / "data", then="fast"):
            assert sql("SELECT count(*) FROM pgbench_history") == before
            balanced = "SELECT sum(abalance) = (SELECT sum(delta) FROM pgbench_history) FROM pgbench_accounts"
            assert sql(balanced) == "t"
            fork = vol.fork.sync("copy")  # of a running database: as after a power cut
        pg("pg_checksums", "--check", "-D", root / "data")
        places = {"cache_dir": root.parent / "cache", "meta_dir": root.parent / "copy-meta", "allow_other": True}
        with fork.mounted(root.parent / "copy", **places) as copy:
            (copy / "data" / "postmaster.pid").unlink()
            with running(copy / "data", then="fast"):
                assert sql("SELECT count(*) FROM pgbench_history") == before
                assert sql(balanced) == "t"

"""Everything but mounts works where there is neither FUSE nor Linux; what is played, and what is not: `elsewhere`."""

from __future__ import annotations

import pytest

from tests.io.conftest import World, run_elsewhere


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_files_and_fsspec(world: World, system: str) -> None:
    code = """
        import io
        import shutil
        from flyteplugins_vol.errors import FuseMissingError
        from flyteplugins_vol.fs import VolumeFileSystem
        from flyteplugins_vol.io import Volume

        volume = Volume.new("anywhere", STORE)
        with volume.batch_upload() as batch:
            for number in range(50):
                batch.put_file(io.BytesIO(bytes(number)), f"d/{number}")
        volume.commit.sync()
        volume.write_bytes.sync("x", bytes(range(256)) * 40_000)
        volume.copy.sync("x", "y")
        volume.rename.sync("y", "z")
        version = volume.finalize.sync()
        shutil.rmtree("cache")
        version = Volume.from_locator.sync(version.locator)
        assert version.read_bytes.sync("z") == bytes(range(256)) * 40_000
        assert len(list(version.download.sync("d", "out").iterdir())) == len(version.ls.sync("d")) == 50
        try:
            version.mount.sync("mnt")
        except FuseMissingError as error:
            assert "mounts need Linux" in error.message, error
        else:
            raise AssertionError
        assert VolumeFileSystem(version.locator).du("/") > 10_000_000
        fs = VolumeFileSystem("anywhere", store=STORE)
        fs.pipe_file("/new", b"new")
        assert Volume.from_name.sync("anywhere", STORE).read_bytes.sync("new") == b"new"
    """
    run_elsewhere(system, world, code)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_commands(world: World, system: str) -> None:
    (world.root / "file").write_bytes(b"data")
    (world.root / "dir").mkdir()
    (world.root / "dir" / "one").write_bytes(b"1")
    code = """
        import contextlib
        import io
        import os
        from flyteplugins_vol.cli.main import COMMANDS, run

        LINES = '''
            new data
            put data file dir /
            ls data -l
            tree data
            cat data file
            stat data file
            get data dir out
            cp data file copy
            rm data file
            restore data file
            log data
            fork data --name other
            rm other copy
            merge data other --into data
            list
            warmup data
            doctor
            bench --size 1 --files 20
            status
            completion bash
            delete other -y
        '''
        for line in LINES.split("\\n"):
            if line.strip():
                code = run(line.split())
                assert code == 0, line
        assert run(["copy", "data", "--history", "--to", os.path.abspath("elsewhere")]) == 0
        assert run(["explore", "data"]) == 2, "no terminal"
        for line in ("mount data mnt", "exec data -- true"):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                assert run(line.split()) in (5, 125)
            assert "mounts need Linux" in err.getvalue(), err.getvalue()
        for command in COMMANDS:
            assert run([command, "--help"]) == 0
    """
    run_elsewhere(system, world, code)

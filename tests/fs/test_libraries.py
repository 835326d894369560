"""pandas, pyarrow, Polars, DuckDB, zarr and Hugging Face datasets read and write volumes with no mount."""

from __future__ import annotations

import pytest

from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume, Volume

pytestmark = pytest.mark.filterwarnings("default")  # those of other people's libraries


@pytest.fixture
def locator(volume: RWVolume) -> str:
    """A version with ``t/part-N.parquet`` and ``t.csv``: 100 rows in each of 3 parts."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    fs = VolumeFileSystem.of(volume)
    for part in range(3):
        fs.makedirs("t", exist_ok=True)
        table = pa.table({"n": list(range(part * 100, part * 100 + 100)), "part": [part] * 100})
        with fs.open(f"t/part-{part}.parquet", "wb") as file:
            pq.write_table(table, file)
    fs.pipe_file("t.csv", b"n,part\n" + b"".join(b"%d,%d\n" % (n, n // 100) for n in range(300)))
    return str(volume.finalize.sync().locator)


def test_pandas(locator: str) -> None:
    pd = pytest.importorskip("pandas")
    assert pd.read_csv(f"flytevol://{locator}!/t.csv").n.sum() == 44850
    assert pd.read_parquet(f"flytevol://{locator}!/t/part-1.parquet").part.unique().tolist() == [1]
    frame = pd.DataFrame({"x": [1, 2, 3]})
    frame.to_csv("flytevol://data!/out/x.csv", index=False)
    frame.to_parquet("flytevol://data!/out/x.parquet", storage_options={"message": "by pandas"})
    assert pd.read_csv("flytevol://data!/out/x.csv").equals(frame)
    version = Volume.from_name.sync("data")
    assert version.message == "by pandas"
    assert [info.name for info in version.ls.sync("out")] == ["x.csv", "x.parquet"]


def test_pyarrow_dataset(locator: str) -> None:
    ds = pytest.importorskip("pyarrow.dataset")
    fs = VolumeFileSystem(locator)
    found = ds.dataset("t", filesystem=fs, format="parquet")
    assert found.count_rows() == 300
    assert found.to_table(filter=ds.field("part") == 2).column("n").to_pylist() == list(range(200, 300))
    writer = Volume.from_locator.sync(locator).fork.sync("out")
    ds.write_dataset(found, "copy", filesystem=VolumeFileSystem.of(writer), format="parquet", partitioning=["part"])
    version = writer.finalize.sync()
    assert ds.dataset("copy", filesystem=VolumeFileSystem.of(version), format="parquet").count_rows() == 300


def test_polars(locator: str) -> None:
    pl = pytest.importorskip("polars")
    fs = VolumeFileSystem(locator)
    with fs.open("t.csv") as file:
        assert pl.read_csv(file)["n"].sum() == 44850
    with fs.open("t/part-2.parquet") as file:
        assert pl.read_parquet(file)["n"].min() == 200
    ds = pytest.importorskip("pyarrow.dataset")
    lazy = pl.scan_pyarrow_dataset(ds.dataset("t", filesystem=fs, format="parquet"))
    assert lazy.filter(pl.col("part") == 1).select(pl.len()).collect().item() == 100


def test_duckdb(locator: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register_filesystem(VolumeFileSystem(locator))
        rows = connection.execute(
            "SELECT part, count(*) FROM read_parquet('flytevol://t/*.parquet') GROUP BY 1 ORDER BY 1"
        )
        assert rows.fetchall() == [(0, 100), (1, 100), (2, 100)]
        query = f"SELECT sum(n) FROM read_csv('flytevol://{locator}!/t.csv')"
        assert connection.execute(query).fetchone() == (44850,)


def test_zarr(volume: RWVolume) -> None:
    zarr = pytest.importorskip("zarr")
    np = pytest.importorskip("numpy")
    pytest.importorskip("zarr.storage")
    volume.write_bytes.sync("a", b"")
    volume.finalize.sync()
    data = np.arange(10_000, dtype="i4").reshape(100, 100)
    fs = VolumeFileSystem("data", publish=False)
    store = zarr.storage.FsspecStore(_asynchronous(fs), path="arrays")
    array = zarr.create_array(store=store, name="x", shape=data.shape, chunks=(10, 100), dtype=data.dtype)
    array[:] = data
    version = fs.commit("by zarr")
    fs.volume.close.sync()
    assert version is not None
    read = zarr.open_group(f"flytevol://{version.locator}!/arrays", mode="r")
    assert (read["x"][40:50] == data[40:50]).all()


def test_hugging_face_datasets(locator: str, tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(
        "parquet", data_files=f"flytevol://{locator}!/t/*.parquet", cache_dir=str(tmp_path / "hf"), split="train",
        streaming=True,
    )  # fmt: skip
    assert sum(1 for _ in found) == 300


def _asynchronous(fs: VolumeFileSystem):
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    return AsyncFileSystemWrapper(fs, asynchronous=True)

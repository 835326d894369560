"""The parts of `volume_benchmark.py`: cases measure targets, the runner interleaves them, the report compares."""

"""The parts of `demo.py`: a source tree, a store, the check in a fresh process, and the screen."""

"""The three views of a version: its files, its history, what changed."""

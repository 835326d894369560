"""The command line, ``flytevol``: `main.main` is its entry point. docs/cli.md says what a script may rely on."""

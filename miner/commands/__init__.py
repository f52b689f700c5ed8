"""One module per command: its arguments in `add`, what it does in `run`. Heavy imports wait for `run`."""

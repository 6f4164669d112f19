"""The command line, `nemo-bert COMMAND`: one file per command."""

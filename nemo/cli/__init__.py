"""The command line, `nemo-bert COMMAND`: one file for each command."""

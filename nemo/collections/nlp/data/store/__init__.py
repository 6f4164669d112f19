"""The token store: flat, memory-mapped arrays with checksums."""

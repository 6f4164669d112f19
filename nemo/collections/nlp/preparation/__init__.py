"""Text of any size -> token stores and HDF5 shards, in one or many processes, which may be killed at any
time.

options  ->  plan: which text goes into which part  ->  stages, run by an engine:
tokenize (one task per part)  ->  assemble (stores)  ->  shards (one task per file)  ->  finish (manifests)
"""

"""Text of any size -> token stores and HDF5 shards, by one process or many, which may be killed at any time.

options  ->  plan: which text in which parts  ->  steps, run by an engine:
tokenise (a task a part)  ->  assemble (stores)  ->  shards (a task a file)  ->  finish (manifests)
"""

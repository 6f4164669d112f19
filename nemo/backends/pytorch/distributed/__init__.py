"""Distributed training: collectives, the watchdog, gradient sums and sharded weights."""

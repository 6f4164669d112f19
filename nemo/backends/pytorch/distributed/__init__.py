"""Several processes: collectives, a watchdog, the sum of gradients, sharded weights."""

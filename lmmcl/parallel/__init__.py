"""Several processes: strategies, tensor parallelism, loading into shards, processes that die."""

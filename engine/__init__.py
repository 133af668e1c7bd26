"""How a step runs: sockets, mesh, partitioning, state, step, loop, checkpoints, telemetry. Knows no model family and no method by name."""

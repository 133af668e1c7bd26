"""What the network computes: Flax NNX modules that know no data, no loss and no mesh."""

"""Tasks answered in words, by encoder-decoders: their rows, what a text says, evaluation during training and through seqio."""

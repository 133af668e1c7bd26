"""What a batch is: tasks, vocabularies, packing, the cache and the streams that the engine reads.

seqio and TensorFlow are imported inside functions only, so that all that does not need them works without.
"""

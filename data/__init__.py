"""What a batch is: tasks, vocabularies, packing, the cache and the streams that the engine reads.

seqio and TensorFlow are imported inside functions only (`seqio_bridge`, `vocabularies.seqio_vocabulary`); all else works without them.
"""

"""The pieces that every family is built from; one subject a file."""

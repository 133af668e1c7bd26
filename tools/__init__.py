"""Checkpoint in, checkpoint out, and looking at what there is; each tool is `python -m rootstock.tools.NAME`."""

"""Generating text with a model that keeps a cache, and the likelihood of given texts. Each search is one compiled loop."""

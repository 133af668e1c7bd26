"""What pretraining minimises; one objective a file."""

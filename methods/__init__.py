"""What changes a step for any stage: gradient, update, view and probe methods, one file each. See docs/add_a_method.md."""

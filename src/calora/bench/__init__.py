"""The grid of cells: what is run, where results lie, and the demo."""

"""What maintainers and `make` run: installing PyTorch, resolving for other systems, testing the lower bounds."""

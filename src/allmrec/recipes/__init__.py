"""A run's configuration: its classes, the recipes that come with the package, and reading recipes from files."""

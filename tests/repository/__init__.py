"""The repository itself: pins, Makefile, installer, container files, and rules that hold for every file."""

"""Status: the whole picture as one value, for the command line, a file, and the overview in the UI."""

"""One module a command: it parses, calls the library and prints."""

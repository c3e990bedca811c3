"""The command line: ``main.py`` parses, one thin file a verb group acts. Nothing here imports torch at load time."""

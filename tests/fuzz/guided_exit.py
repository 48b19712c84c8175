"""How ``guided.py`` says that it has no atheris."""

ABSENT = 69

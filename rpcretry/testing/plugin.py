"""The pytest plugin. It is loaded by every pytest run where the package is installed, so it imports nothing of it until a fixture is used."""

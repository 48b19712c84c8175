"""The loops that do what a call asks for: one that waits, one that awaits. Nothing is decided here."""

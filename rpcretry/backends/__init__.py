"""Backends over HTTP libraries: ``rpcretry.backends.requests`` and ``rpcretry.backends.aiohttp``."""

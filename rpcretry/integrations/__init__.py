"""Sinks for other tools: :mod:`~rpcretry.integrations.opentelemetry` and :mod:`~rpcretry.integrations.prometheus`.

Each is imported only where it is asked for, and needs the extra of its name.
"""

from __future__ import annotations

__all__: list[str] = []

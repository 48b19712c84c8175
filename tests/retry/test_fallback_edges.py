"""What is kept for LAST_GOOD: under no key nothing, and nothing that falls out is let go with the lock held."""

from __future__ import annotations

from rpcretry.retry import LAST_GOOD, Fallback


def test_a_call_without_a_key_has_no_last_good_result() -> None:
    fallback = Fallback(LAST_GOOD, 0)
    fallback.remember(None, 5, 0.0)
    assert [offer.ask() for offer in fallback.offers(OSError("x"), None, 0.0)] == [0]


def test_what_falls_out_is_let_go_where_no_lock_is_held() -> None:
    held: list[bool] = []

    class Value:
        def __del__(self) -> None:
            held.append(fallback._lock._is_owned())  # type: ignore[attr-defined]

    fallback = Fallback(LAST_GOOD, size=1)
    fallback.remember("a", Value(), 0.0)
    fallback.remember("a", Value(), 0.0)
    fallback.remember("b", 0, 0.0)
    assert held == [False, False]


def test_a_fallback_that_is_told_what_to_fall_back_to_alone() -> None:
    fallback = Fallback(LAST_GOOD)
    assert (fallback.max_age, fallback.size, fallback.remembers, fallback.is_async) == (None, 1024, True, False)
    assert (fallback.covers(Exception()), Fallback(0).remembers) == (True, False)

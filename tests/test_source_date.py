"""The date of reproducible builds: every moment that datetime has, and now where none is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mobileprune import source_date
from mobileprune.errors import UsageError


def test_what_is_given_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, year in ((0, 1970), (1_767_225_600, 2026), (source_date.LATEST, 9999)):
        monkeypatch.setenv(source_date.VARIABLE, str(given))
        assert source_date.now().year == year
        assert source_date.now().timestamp() == given


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_date_it_is_the_clocks(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.delenv(source_date.VARIABLE, raising=False)
    if given is not None:
        monkeypatch.setenv(source_date.VARIABLE, given)
    assert abs(source_date.now() - datetime.now(UTC)) < timedelta(hours=1)


@pytest.mark.parametrize("given", [str(source_date.LATEST + 1), "-1", "1e9", " 1", "٣", "9" * 5000])
def test_what_is_no_moment_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(source_date.VARIABLE, given)
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH=.*: must be whole seconds since 1970"):
        source_date.now()

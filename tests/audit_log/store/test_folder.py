"""What is peculiar to an archive in a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.store.errors import RefusedError
from adinsights_orchestration.audit_log.store.folder import Folder


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(RefusedError, match="makes no hard links") as told:
        Folder(tmp_path).create("audit/v1/x", b"content")
    assert "SMB" in str(told.value)
    assert list((tmp_path / "audit/v1").iterdir()) == []

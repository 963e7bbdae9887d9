"""Pages as a person's browser shows them: Chromium without a window, and the words that stand on the page in the end.

Nothing but the browser itself is needed, and where it is not installed its tests are skipped.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# So long a page may load and ask its server for more; the browser's own clock, which does not count what it waits for.
_SETTLED_AFTER_MS = 20_000


def chromium() -> str:
    """The installed browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is installed")
    return found


def words_of(url: str, folder: Path, name: str) -> str:
    """Opens a page, keeps a picture of it as `<name>.png` in the folder, and returns the words on it.

    Args:
        url: The page.
        folder: Where pictures and the browser's profile are kept.
        name: What the picture is called.
    """
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    flags += [f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={_SETTLED_AFTER_MS}"]
    command = [chromium(), *flags, f"--screenshot={folder / f'{name}.png'}", "--dump-dom", url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", shown, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text))).strip()

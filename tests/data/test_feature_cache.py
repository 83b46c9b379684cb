"""What ``data.cache_features`` may say."""

from pathlib import Path
from typing import Any

import pytest

from lmmcl.data.feature_cache import check_feature_cache
from lmmcl.errors import UserError


def test_a_folder_the_users_cache_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert check_feature_cache(False, 1.0) is None
    assert check_feature_cache(True, 1.0) == tmp_path / "lmmcl" / "features"
    assert check_feature_cache("here/features", 1.0) == Path("here/features")


@pytest.mark.parametrize(
    ("where", "most", "key"),
    [
        (True, 0.0, "data.cache_features_gb"),
        ("", 1.0, "data.cache_features"),
        (__file__, 1.0, "data.cache_features"),
    ],
)
def test_anything_else_is_named(where: Any, most: float, key: str) -> None:
    with pytest.raises(UserError, match=f"{key} must"):
        check_feature_cache(where, most)

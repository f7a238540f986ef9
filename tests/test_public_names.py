from __future__ import annotations

import allmrec


def test_dir_shows_the_public_names_and_no_others() -> None:
    assert dir(allmrec) == sorted(allmrec.__all__)
    assert all(getattr(allmrec, name).__doc__ for name in dir(allmrec))

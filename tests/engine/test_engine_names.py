"""Every name that the engine offers exists."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets import engine


@pytest.mark.parametrize("name", engine.__all__)
def test_name_is_there(name):
    assert getattr(engine, name).__name__ == name
    assert name in dir(engine)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'fuze'"):
        _ = engine.fuze

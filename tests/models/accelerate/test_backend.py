"""Back-ends by name and precision."""

from __future__ import annotations

import pytest

from models.accelerate.backend import Backend


class TestBackend:
    def test_a_precision_that_the_backend_does_not_have_is_refused(self) -> None:
        with pytest.raises(ValueError, match="eager offers float32, not int8"):
            Backend("eager", "int8")

    def test_it_reads_as_people_say_it(self) -> None:
        assert str(Backend("openvino", "int8")) == "openvino int8"
        assert str(Backend("eager")) == "eager"

"""The table of pretrained parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.errors import SetupError, UserError
from models.parts.install import pull
from models.parts.registry import (
    PARTS,
    find_part,
    get_part,
    require_part,
)

if TYPE_CHECKING:
    from pathlib import Path


class TestRegistry:
    def test_names_are_those_the_house_uses(self) -> None:
        assert set(PARTS) == {
            "vosk-tiny",
            "vosk-model-small-en-us-0.15",
            "vosk-model-en-us-0.22",
            "whisper-tiny.en",
            "yunet",
            "vggish",
            "bert-base-uncased",
        }

    def test_everything_is_published_over_https_and_is_licensed(self) -> None:
        for part in PARTS.values():
            assert part.licence
            assert part.shipped != bool(part.downloads)
            assert all(d.url.startswith("https://") for d in part.downloads)

    def test_the_shipped_recogniser_is_always_installed(self) -> None:
        found = require_part("vosk-tiny")
        assert (found.path / "am" / "final.mdl").is_file()

    def test_the_real_detector_has_the_pinned_hash(self, fixtures: Path) -> None:
        found = pull("yunet", source=fixtures / "face" / "face_detection_yunet_2023mar.onnx")
        assert found.sha256 == get_part("yunet").sha256
        assert require_part("yunet") == found

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(UserError, match=r"no part 'yolo'.*yunet.*vggish"):
            find_part("yolo")

    def test_a_part_that_is_not_installed_says_which_command_installs_it(self) -> None:
        assert find_part("vggish") is None
        with pytest.raises(UserError, match=r"vggish .*not installed: run `models-pull vggish`"):
            require_part("vggish")

    def test_what_is_wrong_and_the_way_out_are_told_apart(self, fixtures: Path) -> None:
        with pytest.raises(SetupError) as absent:
            require_part("vggish")
        assert absent.value.problem.endswith("is not installed")
        assert absent.value.way_out == "run `models-pull vggish`"
        pull("yunet", source=fixtures / "face").path.write_bytes(b"altered")
        with pytest.raises(SetupError) as damaged:
            find_part("yunet")
        assert "models-pull" not in damaged.value.problem
        assert damaged.value.way_out == "install it again with `models-pull yunet`"

    def test_what_is_shipped_is_not_pulled(self) -> None:
        with pytest.raises(UserError, match="nothing to install"):
            pull("vosk-tiny")

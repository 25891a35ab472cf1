"""Agreement with eager: what passes on the probe input and what does not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from models.accelerate.parity import LIMITS, compare, make_reference
from models.spec import Modality

if TYPE_CHECKING:
    from models.bundle.load import Bundle


class TestParity:
    def test_eager_agrees_with_itself(self, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        agreement = compare(bundle.ensemble, reference, reference.embeddings, "float32")
        assert agreement.holds
        assert (agreement.features, agreement.estimates) == (0.0, 0.0)

    @pytest.mark.parametrize("precision", LIMITS)
    def test_another_frames_embeddings_do_not_pass(self, precision: str, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        found = {Modality.AUDIO: -reference.embeddings[Modality.AUDIO]}
        assert not compare(bundle.ensemble, reference, found, precision).holds  # type: ignore[arg-type]

    def test_features_alone_do_not_make_it_pass(self, bundle: Bundle) -> None:
        """Valence and arousal are compared themselves: a small error of a wide lever is found."""
        reference = make_reference(bundle)
        far = dataclasses.replace(reference, estimates=reference.estimates + 0.2)
        agreement = compare(bundle.ensemble, far, reference.embeddings, "int8")
        assert agreement.features == 0.0
        assert not agreement.holds

    def test_another_shape_does_not_pass(self, bundle: Bundle) -> None:
        reference = make_reference(bundle)
        found = {Modality.AUDIO: reference.embeddings[Modality.AUDIO][:, :, :-1]}
        with pytest.raises(ValueError, match="expected audio embeddings"):
            compare(bundle.ensemble, reference, found, "float32")

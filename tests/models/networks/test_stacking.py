"""Which folds share a trunk, and which do not belong together."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.errors import UserError
from models.networks.ensemble import Ensemble
from models.networks.stacking import Fold, trunk_hash
from models.spec import (
    COMPACT,
    LanguageSpec,
    Modality,
    NetworkSpec,
    TemporalSpec,
)
from tests.models.small_networks import (
    make_network,
    share_trunk,
)

if TYPE_CHECKING:
    from models.networks.fold import EmotionNetwork


class TestTrunks:
    def make(self, count: int = 3) -> list[EmotionNetwork]:
        networks = [make_network(COMPACT, f) for f in range(count)]
        share_trunk(networks)
        return networks

    def test_identical_trunks_are_one(self) -> None:
        ensemble = Ensemble.from_folds(self.make())
        assert len(ensemble.trunks) == 1
        assert len(ensemble.trunk_features(torch.zeros(1, 3, 40, 40))) == 1

    @pytest.mark.parametrize(
        "name", ["input_layer.0.weight", "body.1.res_layer.4.running_mean", "body.2.res_layer.0.running_var"]
    )
    def test_one_value_makes_another_trunk(self, name: str) -> None:
        networks = self.make()
        backbone = networks[1].backbone
        assert backbone is not None
        assert backbone.group_of(name) == "trunk"
        backbone.state_dict()[name].view(-1)[0] += 1e-3
        assert len(Ensemble.from_folds(networks).trunks) == 2

    def test_what_a_fold_fine_tunes_makes_none(self) -> None:
        networks = self.make()
        for n in networks[1:]:
            assert n.backbone is not None
            output: Any = n.backbone.groups()["output"][0]
            output[3].weight.data += 1.0
        assert len(Ensemble.from_folds(networks).trunks) == 1

    def test_counters_of_seen_batches_make_none(self) -> None:
        networks = self.make()
        assert networks[1].backbone is not None
        networks[1].backbone.state_dict()["input_layer.1.num_batches_tracked"] += 5
        assert len(Ensemble.from_folds(networks).trunks) == 1

    def test_the_hash_is_of_the_content(self) -> None:
        networks = self.make(2)
        first, second = (n.backbone for n in networks)
        assert first is not None
        assert second is not None
        assert trunk_hash(first) == trunk_hash(second) == trunk_hash(copy.deepcopy(first))
        other = make_network(COMPACT, 9).backbone
        assert other is not None
        assert trunk_hash(first) != trunk_hash(other)

    def test_the_trunk_and_the_tails_are_the_whole(self) -> None:
        ensemble = Ensemble.from_folds(self.make())
        crops = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        features = ensemble.trunk_features(crops)
        assert torch.equal(ensemble.tail_embed(features), ensemble.embed_visual(crops))
        assert ensemble.tail_embed(features).shape == (3, 2, 64)


class TestRefused:
    def refuse(self, folds: list[Fold], match: str) -> None:
        with pytest.raises(UserError, match=match):
            Ensemble.from_folds(folds)

    def test_no_folds(self) -> None:
        self.refuse([], "at least one fold")
        self.refuse([[]], "at least one network")

    def test_targets_that_do_not_agree(self) -> None:
        joint, valence = (
            make_network(COMPACT, 0),
            make_network(COMPACT.model_copy(update={"targets": ("valence",)}), 1),
        )
        self.refuse([joint, valence], "fold 1 estimates valence, fold 0 arousal, valence")
        self.refuse([[joint, valence]], "fold 0 estimates a target twice")

    def test_embeddings_of_different_widths(self) -> None:
        other = NetworkSpec(visual=None, audio=None, language=LanguageSpec(embedding=7))
        self.refuse(
            [make_network(COMPACT, 0), make_network(other, 1)],
            "network 1 takes language embeddings of width 7",
        )

    def test_crops_of_different_sizes(self) -> None:
        assert COMPACT.visual is not None
        backbone = COMPACT.visual.backbone.model_copy(update={"input_size": 48})
        other = COMPACT.model_copy(
            update={"visual": COMPACT.visual.model_copy(update={"backbone": backbone})}
        )
        self.refuse([make_network(COMPACT, 0), make_network(other, 1)], "network 1 takes crops of 48 pixels")

    def test_inputs_of_the_wrong_shape(self) -> None:
        ensemble = Ensemble.from_folds([make_network(COMPACT, 0)])
        with pytest.raises(ValueError, match=r"expected crops \(N, 3, 40, 40\)"):
            ensemble.embed_visual(torch.zeros(1, 3, 48, 48))
        with pytest.raises(ValueError, match=r"expected audio embeddings \(1 or 1, B, T, 32\)"):
            ensemble.run_branch(Modality.AUDIO, torch.zeros(1, 1, 1, 33))
        only_words = NetworkSpec(
            visual=None, audio=None, language=LanguageSpec(embedding=4, temporal=TemporalSpec(widths=(3,)))
        )
        with pytest.raises(ValueError, match="no visual branch"):
            Ensemble.from_folds([make_network(only_words, 0)]).embed_visual(torch.zeros(1, 3, 40, 40))

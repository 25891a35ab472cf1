"""Whole-trial predictions: the two contexts by their definitions, and what is missing is masked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.bundle.manifest import PartUse
from models.centering import RunningCentering, center
from models.spec import Modality, WindowSpec
from models.visual.alignment import network_input
from offline.data.store import Store, TrialRecord, bundle_recipe
from offline.data.windows import Window, cut
from offline.prediction import predict
from offline.prediction.predict import check_store, embed_trial, merge_folds, predict_trial, run_folds
from tests.offline.trial_stores import Made, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle.load import Bundle


SHORT = WindowSpec(length=16, hop=10)


def folds_over(bundle: Bundle, trial: TrialRecord, part: Window) -> np.ndarray:
    """Every fold's outputs over one window from a fresh state, padded with zeros behind: (F, T, K)."""
    assert bundle.audio_encoder is not None
    crops = network_input(cut(trial.crops, part))  # type: ignore[arg-type]
    patches = cut(trial.patches(0, trial.frames), part)
    with torch.inference_mode():
        audio = bundle.audio_encoder(torch.from_numpy(np.array(patches)))
        language = torch.from_numpy(np.array(cut(trial.language, part)))
        values = bundle.ensemble(torch.from_numpy(crops)[None], audio[None], language[None])[:, 0]
        outputs: np.ndarray = values.double().numpy()
        return outputs


class TestStreamContext:
    def test_it_is_one_pass_and_running_centering(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        whole = folds_over(bundle, trial, Window(0, trial.frames, trial.frames))
        assert np.allclose(found.folds, whole, atol=1e-5)
        centering = RunningCentering(3, 300, 2)
        state = centering.initial_state()
        for t in range(trial.frames):
            state, frame = centering.step(state, whole[:, t].T)
            assert np.allclose(found.value[t], np.clip(frame.value, -1, 1), atol=1e-4)
            assert np.allclose(found.spread[t], frame.spread, atol=1e-4)
        assert np.array_equal(found.times, trial.times)
        assert np.array_equal(found.labels, trial.labels.astype(np.float64), equal_nan=True)

    @pytest.mark.parametrize("chunk", [1, 7, 44])
    def test_it_does_not_depend_on_chunks(
        self, bundle: Bundle, store: Store, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        trial = store.trial("long")
        whole = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        monkeypatch.setattr(predict, "CHUNK_FRAMES", chunk)
        parts = predict_trial(bundle, trial, embed_trial(bundle, trial), "stream")
        assert np.allclose(parts.folds, whole.folds, atol=1e-5)

    def test_the_future_is_not_read(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        embedded = embed_trial(bundle, trial)
        cut_short = replace(embedded, embeddings={m: x[:, :, :20] for m, x in embedded.embeddings.items()})
        whole, part = (run_folds(bundle.ensemble, e, "stream", SHORT) for e in (embedded, cut_short))
        assert np.allclose(whole[:, :20], part, atol=1e-6)


class TestWindowsContext:
    def test_windows_are_averaged_and_the_whole_series_centered(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("long")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "windows", SHORT)
        windows = [Window(s, s + 16, 16) for s in (0, 10, 20, 29)]
        total, count = np.zeros((3, 45, 2)), np.zeros((45, 1))
        for w in windows:
            total[:, w.start : w.stop] += folds_over(bundle, trial, w)
            count[w.start : w.stop] += 1
        assert np.allclose(found.folds, total / count, atol=1e-5)
        for k in range(2):
            expected = center(found.folds[:, :, k])
            assert np.allclose(found.value[:, k], np.clip(expected.merged, -1, 1))
            assert np.allclose(found.spread[:, k], expected.folds.std(axis=0))

    def test_a_short_trial_is_as_if_padded_with_zeros(self, bundle: Bundle, store: Store) -> None:
        trial = store.trial("short")
        found = predict_trial(bundle, trial, embed_trial(bundle, trial), "windows", SHORT)
        assert np.allclose(found.folds, folds_over(bundle, trial, Window(0, 9, 16))[:, :9], atol=1e-5)

    def test_the_contexts_differ_where_windows_begin_anew(self, bundle: Bundle, store: Store) -> None:
        embedded = embed_trial(bundle, store.trial("long"))
        folds = [run_folds(bundle.ensemble, embedded, c, SHORT) for c in ("stream", "windows")]
        assert np.allclose(folds[0][:, :10], folds[1][:, :10], atol=1e-5)
        assert np.abs(folds[0] - folds[1]).max() > 1e-3


def test_values_are_clipped_last() -> None:
    folds = np.stack([np.linspace(-3, 3, 12)[:, None] + shift for shift in (-0.2, 0.1, 0.4)])
    for context in ("stream", "windows"):
        value, _ = merge_folds(folds, context, WindowSpec())
        assert np.abs(value).max() == 1
    inside = np.abs(center(folds[:, :, 0]).merged) < 1
    assert np.allclose(value[inside, 0], center(folds[:, :, 0]).merged[inside]), (
        "centered before they are clipped"
    )


@pytest.mark.parametrize("context", ["stream", "windows"])
def test_what_was_not_there_is_masked(bundle: Bundle, store: Store, context: str) -> None:
    trial = store.trial("silent")
    embedded = embed_trial(bundle, trial)
    assert embedded.missing == {Modality.AUDIO, Modality.LANGUAGE}
    found = predict_trial(bundle, trial, embedded, context)  # type: ignore[arg-type]
    heard = store.trial("other")
    masked = embed_trial(bundle, heard).without(Modality.AUDIO).without(Modality.LANGUAGE)
    picture = replace(
        masked,
        embeddings=masked.embeddings | {Modality.VISUAL: embedded.embeddings[Modality.VISUAL]},
    )
    same = predict_trial(bundle, heard, picture, context)  # type: ignore[arg-type]
    assert np.array_equal(found.value, same.value), "what is masked does not count"


def test_all_branches_masked_gives_numbers(bundle: Bundle, store: Store) -> None:
    embedded = embed_trial(bundle, store.trial("short"))
    for modality in Modality:
        embedded = embedded.without(modality)
    assert np.isfinite(run_folds(bundle.ensemble, embedded, "stream", SHORT)).all()


class TestSoundOfAnInstalledEncoder:
    """A bundle that does not bring its encoder takes the store's embeddings of the same one."""

    @pytest.fixture
    def paper_like(self, bundle: Bundle) -> Bundle:
        recipe = bundle.manifest.recipe.model_copy(update={"audio_encoder": PartUse(name="vggish")})
        manifest = bundle.manifest.model_copy(update={"recipe": recipe})
        return replace(bundle, manifest=manifest, audio_encoder=None)

    def test_stored_embeddings_serve(self, paper_like: Bundle, bundle: Bundle, tmp_path: Path) -> None:
        recipe = bundle_recipe(paper_like.manifest)
        made = write_store(tmp_path / "store", recipe, [Made("a", frames=10)])
        audio = np.random.default_rng(0).normal(0, 1, (10, 32)).astype(np.float32)
        np.save(made.folder / "validation" / "a" / "audio.npy", audio)
        check_store(paper_like, made)
        embedded = embed_trial(paper_like, made.trial("a"))
        assert not embedded.missing
        assert np.array_equal(embedded.embeddings[Modality.AUDIO][0, 0].numpy(), audio)

    def test_without_them_the_branch_is_off(self, paper_like: Bundle, store: Store) -> None:
        assert embed_trial(paper_like, store.trial("short")).missing == {Modality.AUDIO}

"""BERT's encoder, from a folder that `transformers` saved, without `transformers`.

That library takes two seconds to import and, with all that it brings, some hundred MiB; what a live run needs of it
is this one network. Weights have the library's names; in float32 the layers' outputs are the library's to the last
bit.
Source: Devlin et al. 2019, report section 3.3.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

Count = Annotated[int, Field(ge=1, le=1 << 20)]


class BertConfig(BaseModel):
    """What of a `config.json` decides the encoder's form; a configuration of any other kind does not fit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: Count
    type_vocab_size: Count
    max_position_embeddings: Count
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    position_embedding_type: Literal["absolute"] = "absolute"

    @classmethod
    def read(cls, folder: Path) -> BertConfig | None:
        """The folder's, or None where it is of no BERT of this form, or not to be read."""
        try:
            config = cls.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError):
            return None
        return config if config.hidden_size % config.num_attention_heads == 0 else None


class BertStates(NamedTuple):
    """What enters the first layer, and what each layer makes of it: (N, L, E) each."""

    hidden_states: tuple[Tensor, ...]


class BertEncoder(nn.Module):
    """Piece ids (N, L) and their mask, 1 or 0, to all layers' states; without dropout, for it does not learn."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = True
    ) -> BertStates:
        """All layers' states, the pieces attended to where the mask is 1; all of them where there is none."""
        attended: Tensor | None = None
        if attention_mask is not None:
            n, length = attention_mask.shape
            attended = attention_mask[:, None, None, :].to(torch.bool).expand(n, 1, length, length)
        states = [self.embeddings(input_ids)]
        for layer in self.encoder.layer:
            states.append(layer(states[-1], attended))
        return BertStates(tuple(states))


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        first_type = torch.zeros_like(ids)
        total = self.word_embeddings(ids) + self.token_type_embeddings(first_type)
        normed: Tensor = self.LayerNorm(total + self.position_embeddings(positions))
        return normed


class _Layers(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = nn.ModuleDict({"self": _SelfAttention(config), "output": _AddAndNorm(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _AddAndNorm(inner, config)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, attended), x)
        out: Tensor = self.output(functional.gelu(self.intermediate["dense"](x)), x)
        return out


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self._head = config.hidden_size // config.num_attention_heads
        self.query, self.key, self.value = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3)
        )

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        heads = (*x.shape[:-1], -1, self._head)
        q, k, v = (part(x).view(heads).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=attended, scale=self._head**-0.5)
        return seen.transpose(1, 2).reshape(x.shape)


class _AddAndNorm(nn.Module):
    def __init__(self, inside: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(x) + before)
        return out

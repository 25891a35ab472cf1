"""The temporal branch: a causal temporal convolutional network, over a window or one frame at a time.

Source: Bai, Kolter and Koltun 2018, in the report's shape (section 2). A level is two weight-normalised
dilated causal convolutions, each followed by LeakyReLU and dropout, plus a residual path, then LeakyReLU.

What a causal convolution needs of the past is its last (kernel - 1) * dilation inputs. That is the whole
state: a window is a run from the zero state (zero padding on the left of every convolution), a frame is a run
of length one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.spec import TemporalSpec


@dataclass(frozen=True, eq=False)
class TemporalState:
    """What a branch remembers: for each causal convolution its last inputs, oldest first.

    `history[i]` is (B, P, C), or (S, B, P, C) in a stack of S networks; P = (kernel - 1) * dilation. No
    tensor is ever written to in place, so keeping a state is keeping a snapshot.
    """

    history: tuple[Tensor, ...]


class CausalConv(nn.Module):
    """One weight-normalised dilated convolution that sees the frame itself and what came before it."""

    def __init__(self, in_width: int, out_width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        conv = nn.Conv1d(in_width, out_width, kernel, dilation=dilation)
        nn.init.xavier_uniform_(conv.weight, gain=math.sqrt(2))
        self.conv = parametrizations.weight_norm(conv)
        self.in_width = in_width
        self.dilation = dilation
        self.past = (kernel - 1) * dilation

    def forward(self, history: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Past inputs (B, P, C) and new ones (B, T, C) to the next past inputs and the outputs (B, T, E)."""
        window = torch.cat([history, x], dim=1)
        weight, bias = self.conv.weight, self.conv.bias
        if x.shape[1] == 1:
            taps = window[:, :: self.dilation].transpose(1, 2).flatten(1)
            y = functional.linear(taps, weight.flatten(1), bias).unsqueeze(1)
        else:
            y = functional.conv1d(window.transpose(1, 2), weight, bias, dilation=self.dilation).transpose(
                1, 2
            )
        return _newest(window, self.past), y


class TemporalLevel(nn.Module):
    """Two causal convolutions and the residual path around them."""

    def __init__(self, spec: TemporalSpec, in_width: int, out_width: int, dilation: int) -> None:
        super().__init__()
        self.first = CausalConv(in_width, out_width, spec.kernel, dilation)
        self.second = CausalConv(out_width, out_width, spec.kernel, dilation)
        self.residual: nn.Conv1d | None = None
        if in_width != out_width:
            self.residual = nn.Conv1d(in_width, out_width, 1)
            nn.init.xavier_uniform_(self.residual.weight, gain=math.sqrt(2))
        self.activation = nn.LeakyReLU(spec.negative_slope)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, history: tuple[Tensor, Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Both convolutions' pasts and (B, T, C) to their next pasts and (B, T, E)."""
        first, y = self.first(history[0], x)
        second, y = self.second(history[1], self.dropout(self.activation(y)))
        y = self.dropout(self.activation(y))
        if self.residual is not None:
            x = functional.linear(x, self.residual.weight[:, :, 0], self.residual.bias)
        return (first, second), self.activation(y + x)


class TemporalBranch(nn.Module):
    """A causal TCN: embeddings (B, T, C) to encodings (B, T, E), E the last width of `spec`."""

    def __init__(self, spec: TemporalSpec, in_width: int) -> None:
        super().__init__()
        self.spec = spec
        self.in_width = in_width
        widths = (in_width, *spec.widths)
        self.levels = nn.ModuleList(
            TemporalLevel(spec, widths[i], widths[i + 1], dilation=2**i) for i in range(len(spec.widths))
        )

    def convolutions(self) -> list[CausalConv]:
        """The causal convolutions in the order in which the state keeps their pasts."""
        levels = [level for level in self.levels if isinstance(level, TemporalLevel)]
        return [conv for level in levels for conv in (level.first, level.second)]

    def initial_state(self, batch: int) -> TemporalState:
        """The state before the first frame: zeros, for `batch` sequences."""
        like = next(self.parameters())
        return TemporalState(tuple(like.new_zeros(batch, c.past, c.in_width) for c in self.convolutions()))

    def run(self, x: Tensor, state: TemporalState | None = None) -> tuple[TemporalState, Tensor]:
        """A chunk (B, T, C) of any length, from `state` (None: the beginning), to (next state, (B, T, E))."""
        if x.dim() != 3 or x.shape[2] != self.in_width:
            raise ValueError(f"expected embeddings (B, T, {self.in_width}), got {tuple(x.shape)}")
        state = self.initial_state(x.shape[0]) if state is None else state
        if x.shape[1] == 0:
            return state, x.new_zeros(x.shape[0], 0, self.spec.encoding)
        history: list[Tensor] = []
        for i, level in enumerate(self.levels):
            pasts, x = level((state.history[2 * i], state.history[2 * i + 1]), x)
            history.extend(pasts)
        return TemporalState(tuple(history)), x

    def step(self, state: TemporalState, x: Tensor) -> tuple[TemporalState, Tensor]:
        """One frame (B, C) to (next state, (B, E)); equal to `forward` over the whole window."""
        state, y = self.run(x.unsqueeze(1), state)
        return state, y[:, 0]

    def forward(self, x: Tensor, state: TemporalState | None = None) -> Tensor:
        """A window (B, T, C) to its encodings (B, T, E)."""
        return self.run(x, state)[1]


class StackedTemporal(nn.Module):
    """The TCNs of S networks of one specification, run as one for serving: weight norm folded away, no
    dropout.

    A convolution gathers its dilated taps and is one batched matrix product, for a frame as for a window.
    """

    def __init__(
        self,
        spec: TemporalSpec,
        in_width: int,
        convolutions: Sequence[tuple[Tensor, Tensor]],
        residuals: Mapping[int, tuple[Tensor, Tensor]],
    ) -> None:
        """Weight (S, k * C, E) and bias (S, 1, E) of each convolution, and (S, C, E) and (S, 1, E) of the residual
        path of each level that has one; kept as they are, not copied.
        """
        super().__init__()
        self.spec = spec
        self.in_width = in_width
        self.networks = len(convolutions[0][0])
        # Two convolutions a level, as `TemporalBranch` has them.
        self.dilations = [2 ** (i // 2) for i in range(len(convolutions))]
        self.pasts = [
            ((spec.kernel - 1) * dilation, weight.shape[1] // spec.kernel)
            for dilation, (weight, _) in zip(self.dilations, convolutions, strict=True)
        ]
        for i, (weight, bias) in enumerate(convolutions):
            self.register_buffer(f"weight{i}", weight)
            self.register_buffer(f"bias{i}", bias)
        for i, (weight, bias) in residuals.items():
            self.register_buffer(f"residual_weight{i}", weight)
            self.register_buffer(f"residual_bias{i}", bias)

    @classmethod
    def from_branches(cls, branches: Sequence[TemporalBranch]) -> StackedTemporal:
        """Of each network's branch. Raises ValueError where they are not of one specification."""
        spec, in_width = branches[0].spec, branches[0].in_width
        if any(b.spec != spec or b.in_width != in_width for b in branches):
            raise ValueError("only branches of one specification can be stacked")
        convolutions: list[tuple[Tensor, Tensor]] = []
        for convs in zip(*(b.convolutions() for b in branches), strict=True):
            # Taps are gathered as (kernel, channel): weights (E, C, k) -> (k * C, E).
            weight = torch.stack([c.conv.weight.detach().permute(2, 1, 0).flatten(0, 1) for c in convs])
            bias = torch.stack([_bias(c.conv) for c in convs])
            convolutions.append((weight.contiguous(), bias.unsqueeze(1).contiguous()))
        residuals: dict[int, tuple[Tensor, Tensor]] = {}
        for i, levels in enumerate(zip(*(b.levels for b in branches), strict=True)):
            if levels[0].residual is not None:
                weight = torch.stack([level.residual.weight.detach()[:, :, 0].t() for level in levels])
                bias = torch.stack([level.residual.bias.detach() for level in levels])
                residuals[i] = (weight.contiguous(), bias.unsqueeze(1).contiguous())
        return cls(spec, in_width, convolutions, residuals)

    def first_networks(self, count: int) -> StackedTemporal:
        """The first `count` networks' branches, sharing their tensors."""

        def cut(name: str, i: int) -> tuple[Tensor, Tensor]:
            weight, bias = (self.get_buffer(f"{name}{kind}{i}") for kind in ("weight", "bias"))
            return weight[:count], bias[:count]

        levels = range(len(self.spec.widths))
        return StackedTemporal(
            self.spec,
            self.in_width,
            [cut("", i) for i in range(len(self.dilations))],
            {i: cut("residual_", i) for i in levels if hasattr(self, f"residual_weight{i}")},
        )

    def initial_state(self, batch: int) -> TemporalState:
        """The state before the first frame: zeros, (S, B, P, C) for each convolution."""
        like: Tensor = self.get_buffer("weight0")
        return TemporalState(tuple(like.new_zeros(self.networks, batch, p, c) for p, c in self.pasts))

    def run(self, x: Tensor, state: TemporalState | None = None) -> tuple[TemporalState, Tensor]:
        """A chunk (S, B, T, C), from `state` (None: the beginning), to (next state, (S, B, T, E))."""
        stack, batch, frames, _ = x.shape
        state = self.initial_state(batch) if state is None else state
        if frames == 0:
            return state, x.new_zeros(stack, batch, 0, self.spec.encoding)
        slope = self.spec.negative_slope
        history: list[Tensor] = []
        for level in range(len(self.spec.widths)):
            y = x
            for i in (2 * level, 2 * level + 1):
                past, y = self._convolve(i, state.history[i], y)
                y = functional.leaky_relu(y, slope)
                history.append(past)
            if hasattr(self, f"residual_weight{level}"):
                flat = x.reshape(stack, batch * frames, x.shape[3])
                bias = self.get_buffer(f"residual_bias{level}")
                x = torch.baddbmm(bias, flat, self.get_buffer(f"residual_weight{level}"))
                x = x.view(stack, batch, frames, -1)
            x = functional.leaky_relu(y + x, slope)
        return TemporalState(tuple(history)), x

    def _convolve(self, i: int, history: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        stack, batch, frames, _ = x.shape
        dilation, (past, _) = self.dilations[i], self.pasts[i]
        window = torch.cat([history, x], dim=2)
        if frames == 1:
            taps = window[:, :, ::dilation]
        else:
            taps = torch.stack([window[:, :, s : s + frames] for s in range(0, past + 1, dilation)], dim=3)
        taps = taps.reshape(stack, batch * frames, -1)
        y = torch.baddbmm(self.get_buffer(f"bias{i}"), taps, self.get_buffer(f"weight{i}"))
        return _newest(window, past, dim=2), y.view(stack, batch, frames, -1)


def _bias(convolution: nn.Conv1d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias.detach()


def _newest(window: Tensor, frames: int, dim: int = 1) -> Tensor:
    # A view of a long window would keep all of it alive for as long as the state lives.
    newest = window.narrow(dim, window.shape[dim] - frames, frames)
    return newest if window.shape[dim] == frames + 1 else newest.clone()

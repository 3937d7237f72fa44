"""MotionAGFormer: attention and graph streams side by side, fused (Mehraban et al., WACV 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. As in the
published weights, and unlike the paper, the bone graph has no self-loops and lacks three of its directed edges.
Departures: the output is read as metres unless `units=image` (the published weights give 2.5D image coordinates),
its root row is set to 0, the confidence that the network reads besides x and y is 1 unless `represent` is called,
joint sets other than h36m17 get the full bone graph, and there is an optional scale head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.errors import choose
from poseda.lifters.base import LifterConfig, check_range
from poseda.lifters.blocks import (
    Attention,
    Axis,
    Mlp,
    Representation,
    check_heads,
    even_fusion,
    fuse,
    sigma_head,
)
from poseda.lifters.gpu import LayerNorm, Linear
from poseda.lifters.image_units import BONES_MM, FOCAL, RepresentationLifter, check_units
from poseda.lifters.priors import token_priors
from poseda.skeleton import Skeleton

_VARIANTS = {"xs": (12, 64, 27), "s": (26, 64, 81), "b": (16, 128, 243), "l": (26, 128, 243)}
"""Layers, channels and frames of the published forms."""
_MISSING_EDGES = {"h36m17": (("pelvis", "lhip"), ("thorax", "lshoulder"), ("thorax", "rshoulder"))}
"""Directed edges (from, to) of the bone graph that the published weights were trained without."""
_LAYER_SCALE = 1e-5
_FEW = 4
"""Up to so many, the largest are found one after the other."""


@dataclass(frozen=True)
class MotionAGFormerConfig(LifterConfig):
    """Options of MotionAGFormer."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    variant: str = "xs"
    """Published size: xs, s, b or l."""
    frames: int = 0
    """Frames of a window; 0 is the variant's (27, 81, 243 and 243)."""
    layers: int = 0
    """Layers of two streams each; 0 is the variant's (12, 26, 16 and 26)."""
    dim: int = 0
    """Channels of each token; 0 is the variant's (64, 64, 128 and 128)."""
    heads: int = 8
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Width of the hidden layers over `dim`."""
    dim_rep: int = 512
    """Channels of the motion representation before the head."""
    neighbours: int = 2
    """Most similar frames, itself among them, that a frame is joined with in the temporal graph."""
    prior: str = "none"
    """ktp: KTPFormer's two blocks that know the bones and the order of time, before the first blocks; or none."""
    units: str = "metres"
    """What the network's numbers are: metres, or image, the 2.5D of the published weights."""
    bones_mm: float = BONES_MM
    """Sum of the body's bone lengths, which gives poses in image units their size."""
    focal: float = FOCAL
    """Focal length over half the image width, by which the perspective of image units is undone."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_units(self.units, self.bones_mm, self.focal)
        choose(self.variant, _VARIANTS, "MotionAGFormer variant")
        layers, dim, frames = self.size
        check_range("frames", frames, 1, 4096)
        check_range("layers", layers, 1, 256)
        check_range("neighbours", self.neighbours, 1, frames)
        check_range("mlp_ratio", self.mlp_ratio, 0.01, 64.0)
        check_range("dim_rep", self.dim_rep, 1, 65536)
        check_heads(dim, self.heads)

    @property
    def size(self) -> tuple[int, int, int]:
        """Layers, channels and frames."""
        layers, dim, frames = _VARIANTS[self.variant]
        return self.layers or layers, self.dim or dim, self.frames or frames


class SpatialGraph(nn.Module):
    """relu(x + norm(A V(x) + U(x))) on the bone graph of each frame. (B, T, J, C) -> same."""

    adjacency: Tensor

    def __init__(self, dim: int, adjacency: Tensor) -> None:
        super().__init__()
        self.U, self.V = _graph_linear(dim), _graph_linear(dim)
        self.batch_norm = nn.BatchNorm1d(len(adjacency))
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        y = self.adjacency @ self.V(x) + self.U(x)
        return torch.relu(x + self.batch_norm(y.flatten(0, 1)).view_as(x))


class TemporalGraph(nn.Module):
    """relu(x + norm(A V(x) + U(x))) on the graph of each joint's most similar frames. (B, T, J, C) -> same."""

    def __init__(self, dim: int, frames: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.U, self.V = _graph_linear(dim), _graph_linear(dim)
        self.batch_norm = nn.BatchNorm1d(frames)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        adjacency, scale = self._graph(x.detach().transpose(1, 2))
        around = scale * (adjacency @ (scale * self.V(x).transpose(1, 2)))
        y = around.transpose(1, 2) + self.U(x)
        return torch.relu(x + self.batch_norm(y.flatten(2)).view_as(x))

    def _graph(self, tracks: Tensor) -> tuple[Tensor, Tensor]:
        """Edges (B, J, T, T) of tracks (B, J, T, C), and 1/sqrt(edges of a frame) (B, J, T, 1).

        Normalising by rows before and after the product is the product with D^-1/2 A D^-1/2.
        """
        similarity = tracks @ tracks.transpose(-1, -2)
        least = kth_largest(similarity, self.neighbours)
        adjacency = (similarity >= least).to(tracks.dtype)
        return adjacency, adjacency.sum(-1, keepdim=True).rsqrt()


def kth_largest(numbers: Tensor, k: int) -> Tensor:
    """The k-th largest of the last axis, (..., N) -> (..., 1); equal numbers count one by one.

    PyTorch's `topk` is made for long rows: for those of a window's frames it was a quarter of a pass on a GPU.
    """
    if k > _FEW:
        return numbers.topk(k, -1).values[..., -1:]
    for _ in range(k - 1):
        numbers = numbers.scatter(-1, numbers.argmax(-1, keepdim=True), -torch.inf)
    return numbers.amax(-1, keepdim=True)


class Branch(nn.Module):
    """x + scaled mixer(norm1 x), then x + scaled mlp(norm2 x). (B, T, J, C) -> same."""

    def __init__(self, dim: int, mlp_ratio: float, mixer: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.mixer = mixer
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = torch.addcmul(x, self.layer_scale_1, self.mixer(self.norm1(x)))
        x = torch.addcmul(x, self.layer_scale_2, self.mlp(self.norm2(x)))
        return x


class Layer(nn.Module):
    """Attention stream and graph stream, each spatial then temporal, fused. (B, T, J, C) -> same."""

    def __init__(self, config: MotionAGFormerConfig, adjacency: Tensor) -> None:
        super().__init__()
        _, dim, frames = config.size
        self.att_spatial = self._attention(config, "joints")
        self.att_temporal = self._attention(config, "frames")
        self.graph_spatial = Branch(dim, config.mlp_ratio, SpatialGraph(dim, adjacency))
        self.graph_temporal = Branch(dim, config.mlp_ratio, TemporalGraph(dim, frames, config.neighbours))
        self.fusion = even_fusion(dim)

    @staticmethod
    def _attention(config: MotionAGFormerConfig, axis: Axis) -> Branch:
        dim = config.size[1]
        return Branch(dim, config.mlp_ratio, Attention(dim, config.heads, axis, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        attended = self.att_temporal(self.att_spatial(x))
        return fuse(self.fusion, attended, self.graph_temporal(self.graph_spatial(x)))


class MotionAGFormer(RepresentationLifter):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim_rep) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = MotionAGFormerConfig
    name = "motionagformer"
    cached_frames = 432

    def __init__(self, config: MotionAGFormerConfig | None = None) -> None:
        config = config or MotionAGFormerConfig()
        _, dim, frames = config.size
        super().__init__(skeleton=config.skeleton, frames=frames, output="seq2seq", options=asdict(config))
        adjacency = bone_graph(self.skeleton)
        self.units, self.in_image_units = config.units, (config.bones_mm, config.focal)
        self.joints_embed = nn.Linear(self.inputs + (not self.reads_confidence), dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.skeleton.num_joints, dim))
        self.layers = nn.ModuleList(Layer(each, adjacency) for each in self.layer_configs(config))
        self.norm = LayerNorm(dim)
        self.rep_logit = Representation(dim, config.dim_rep)
        self.head = nn.Linear(config.dim_rep, 3)
        self.prior = token_priors(config.prior, dim, config.heads, config.mlp_ratio, self.skeleton, frames)
        self.sigma_head = sigma_head(config.dim_rep, 1, config.sigma)

    def layer_configs(self, config: MotionAGFormerConfig) -> list[MotionAGFormerConfig]:
        """The options of each layer, which may see fewer frames than the window has."""
        return [config] * config.size[0]

    def features(self, keypoints: Tensor) -> Tensor:
        """Motion representation (B, T, J, dim_rep) of x, y, ..., confidence (B, T, J, C)."""
        x = self.joints_embed(keypoints) + self.pos_embed
        x = self.prior(x)
        for layer in self.layers:
            x = layer(x)
        latent: Tensor = self.rep_logit(self.norm(x))
        return latent


def bone_graph(skeleton: Skeleton) -> Tensor:
    """D^-1/2 A D^-1/2 (J, J) of the published graph, D the edges that leave a joint."""
    adjacency = torch.zeros(skeleton.num_joints, skeleton.num_joints)
    for parent, child in skeleton.bones:
        adjacency[parent, child] = adjacency[child, parent] = 1.0
    for start, end in _MISSING_EDGES.get(skeleton.name, ()):
        adjacency[skeleton.index(start), skeleton.index(end)] = 0.0
    scale = adjacency.sum(-1).rsqrt()
    return scale[:, None] * adjacency * scale


def _graph_linear(dim: int) -> Linear:
    layer = Linear(dim, dim)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / dim))
    return layer


LIFTER = MotionAGFormer

"""The architectures of the coverage table: networks, input sizes, and the expected grid of a map of each.

The expected grids are independent of the engine: they come from strides that the libraries state or the papers give.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

Source = Literal["torchvision", "timm", "hf"]
Size = tuple[int, int]
Grids = tuple[Size, ...]


WHY_THEY_FAIL: Mapping[str, str] = {
    "levit": "its last layers mix all positions, and in the untrained networks of this page none of them follows the "
    "changed patches. The deepest layer that does is taken: its map is right, and finer than expected",
    "efficientvim": "its head reads a hidden state of every stage. Through the last stage passes a part of the "
    "evidence, and the layer before all of them is taken",
}
"""By family, the reason why another layer than the last one is taken."""


@dataclass(frozen=True)
class Architecture:
    """One architecture at one input size: a row of the table.

    Attributes:
        source: the library.
        family: its module or model type there.
        name: of the architecture.
        size: (height, width) of the input.
        build: builds the network with untrained weights.
        expected: returns the correct grids of the map as the library states them; empty where it states none.
        keyword: the argument that takes the image; empty for the first.
    """

    source: Source
    family: str
    name: str
    size: Size
    build: Callable[[], nn.Module]
    expected: Callable[[nn.Module], Grids]
    keyword: str = ""

    @property
    def key(self) -> str:
        """The unique key of the row."""
        return f"{self.source}:{self.name}@{self.size[0]}x{self.size[1]}"

    def inputs(self, count: int = 1) -> Any:
        """Return seeded noise images [count, 3, height, width], as arguments of the network."""
        images = torch.randn(count, 3, *self.size, generator=torch.Generator().manual_seed(1))
        return {self.keyword: images} if self.keyword else images


def by_stride(size: Size, stride: float, unpadded: int = 0) -> Grids:
    """Return the grids that a total stride allows for an image, whether borders are padded or not.

    >>> by_stride((224, 224), 32), by_stride((96, 160), 16), by_stride((299, 299), 32)
    (((7, 7),), ((6, 10),), ((9, 9), (10, 10)))
    """
    height, width = size
    floor = (max(1, int(height // stride) - unpadded), max(1, int(width // stride) - unpadded))
    ceiling = (max(1, int(-(-height // stride)) - unpadded), max(1, int(-(-width // stride)) - unpadded))
    return tuple(dict.fromkeys([floor, ceiling]))


def _always(grids: Grids) -> Callable[[nn.Module], Grids]:
    return lambda _: grids


# torchvision -----------------------------------------------------------------------------------------------------

_TORCHVISION_STRIDES: Mapping[str, tuple[float, int]] = {
    # Before the final max-pooling: Grad-CAM's own choice for VGG.
    "vgg": (16, 0),
    "alexnet": (16, 1),  # unpadded: 55, 27, 13
    "squeezenet": (16, 1),
    "inception_v3": (32, 1),  # unpadded throughout: 299 pixels leave 8 cells
    "vit_b_16": (16, 0),
    "vit_l_16": (16, 0),
    "vit_h_14": (14, 0),
}
"""By prefix of the name: the total stride and the cells lost without padding. All others: 32 and 0."""


def torchvision_architectures() -> Iterator[Architecture]:
    """Yield every classifier of torchvision."""
    from torchvision import models

    for name in models.list_models(module=models):
        side = 299 if name == "inception_v3" else 224
        stride, unpadded = next((s for start, s in _TORCHVISION_STRIDES.items() if name.startswith(start)), (32, 0))
        sizes = [(side, side)] if name not in _NON_SQUARE_TORCHVISION else [(side, side), (160, 256)]
        for size in sizes:
            yield Architecture(
                source="torchvision",
                family=models.get_model_builder(name).__module__.rpartition(".")[2],
                name=name,
                size=size,
                build=partial(_torchvision, name),
                expected=_always(by_stride(size, stride, unpadded)),
            )


_NON_SQUARE_TORCHVISION = ("convnext_tiny", "densenet121", "mobilenet_v2", "resnet50", "swin_t", "swin_v2_t", "vgg11")


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    # GoogLeNet and Inception initialise their weights in slow loops by default.
    special = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, **special)
    return network


# timm ------------------------------------------------------------------------------------------------------------

TIMM = """
beit:beit_base_patch16_224 byoanet:halonet_h1,botnet26t_256,lambda_resnet26t byobnet:test_byobnet,repvgg_a0,mobileone_s0
cait:cait_xxs24_224 coat:coat_tiny,coat_lite_tiny convit:convit_tiny convmixer:convmixer_768_32
convnext:test_convnext,convnext_atto cpubone:cpubone_nano crossvit:crossvit_tiny_240 csatv2:csatv2
cspnet:cs3darknet_focus_s cspnext:cspnext_tiny davit:davit_tiny deepseek_vit:deepseek_vit_412m
deit:deit_tiny_patch16_224,deit_tiny_distilled_patch16_224 densenet:densenet121 dla:dla46x_c dpn:dpn48b
edgenext:edgenext_xx_small efficientformer:efficientformer_l1 efficientformer_v2:efficientformerv2_s0
efficientnet:test_efficientnet,efficientnet_b0 efficientvim:efficientvim_m1 efficientvit_mit:efficientvit_b0
efficientvit_msra:efficientvit_m0 eva:eva02_tiny_patch14_224,vit_tiny_patch16_dinov3_qkvb,vit_pe_core_tiny_patch16_384
fasternet:fasternet_t0 fastvit:fastvit_t8 focalnet:focalnet_tiny_srf gcvit:gcvit_xxtiny gemma4_vit:gemma4_vit_167m
ghostnet:ghostnet_050 hardcorenas:hardcorenas_b hgnet:hgnetv2_b0 hiera:hiera_tiny_224
hieradet_sam2:hieradet_small hrnet:hrnet_w18_small iformer:iformer_t inception_next:inception_next_atto
inception_resnet_v2:inception_resnet_v2 inception_v3:inception_v3 inception_v4:inception_v4 lcnetv2:lcnetv2_small
levit:levit_128s,levit_conv_128s lowformer:lowformer_b0 mambaout:test_mambaout,mambaout_femto
maxxvit:test_coatnet,maxvit_pico_rw_256,coatnet_nano_rw_224 metaformer:poolformerv2_s12,poolformer_s12,caformer_s18
mlp_mixer:gmlp_ti16_224,resmlp_12_224,mixer_s32_224,gmixer_12_224 mobilenetv3:mobilenetv3_small_050
mobilenetv5:mobilenetv5_base mobilevit:mobilevit_xxs,mobilevitv2_050 mvitv2:mvitv2_tiny,mvitv2_base_cls
naflexvit:naflexvit_base_patch16_gap,naflexvit_base_patch16_map nasnet:nasnetalarge nest:jx_nest_tiny
nextvit:nextvit_small nfnet:test_nfnet pit:pit_ti_224,pit_ti_distilled_224 pnasnet:pnasnet5large
pvt_v2:pvt_v2_b0,pvt_v2_b2_li qwen3_vit:qwen3_vit_306m rdnet:rdnet_tiny regnet:regnetx_002
repghost:repghostnet_050 repvit:repvit_m1 res2net:res2next50 resnest:resnest14d resnet:test_resnet,resnet18
resnetv2:resnetv2_18 rexnet:rexnet_100 selecsls:selecsls42 senet:legacy_seresnet18 sequencer:sequencer2d_s
shvit:shvit_s1 sknet:skresnet18 starnet:starnet_s050 swiftformer:swiftformer_xs
swin_transformer:swin_tiny_patch4_window7_224 swin_transformer_v2:swinv2_tiny_window8_256
swin_transformer_v2_cr:swinv2_cr_tiny_224 tiny_vit:tiny_vit_5m_224 tnt:tnt_s_patch16_224 tresnet:tresnet_m
twins:twins_svt_small,twins_pcpvt_small vgg:vgg11 visformer:visformer_tiny
vision_transformer:test_vit,test_vit2,test_vit3,test_vit4,vit_tiny_patch16_224,vit_small_patch14_reg4_dinov2
vision_transformer:vit_base_patch16_siglip_gap_224,vit_little_patch16_reg4_gap_256,vit_base_patch16_siglip_224
vision_transformer:vit_base_patch32_clip_224
vision_transformer_hybrid:vit_tiny_r_s16_p8_224 vision_transformer_relpos:test_vit_relpos
vision_transformer_sam:samvit_base_patch16_224 vitamin:vitamin_small_224 volo:volo_d1_224 vovnet:ese_vovnet19b_slim
xception:legacy_xception xception_aligned:xception41 xcit:xcit_nano_12_p16_224
"""
"""``module:architecture,...``: a small architecture of every module of timm, more where the layouts differ."""

TIMM_OBLONG = (
    "beit cait coat convit convmixer convnext crossvit davit deit densenet edgenext efficientnet efficientvim eva "
    "fastvit focalnet gcvit ghostnet hiera hrnet levit lowformer mambaout maxxvit metaformer mlp_mixer mobilevit "
    "mvitv2 naflexvit nest nfnet pit pvt_v2 resnet rexnet sequencer shvit swin_transformer swin_transformer_v2 "
    "swin_transformer_v2_cr tiny_vit tnt twins vgg visformer vision_transformer vision_transformer_relpos "
    "vision_transformer_sam volo xcit"
)
"""Modules that are also tested at a non-square size: all kinds of tokens, and a few convolutional networks."""

_TIMM_STRIDES: Mapping[str, tuple[float, int]] = {
    "vgg11": (16, 0),  # before the final max-pooling
    "inception_v3": (32, 1),
    "inception_v4": (32, 1),
    "inception_resnet_v2": (32, 1),
    "crossvit_tiny_240": (12, 0),  # two grids: 20 cells a side, and 14 of an image scaled to 224
    "coat_tiny": (8, 0),  # three parallel scales, strides 8, 16 and 32, one output from all: the finest
    "sequencer2d_s": (14, 0),
    "mobilenetv5_base": (16, 0),  # its stages are fused at the second to last scale
}
"""Strides of networks whose library states none, or states that of a layer after the last map."""

_TIMM_SIZES: Mapping[str, Size] = {
    # Smaller than the pretrained size, where the network accepts any size, to save time.
    "nasnetalarge": (224, 224),
    "pnasnet5large": (224, 224),
    "csatv2": (256, 256),
    "naflexvit_base_patch16_gap": (224, 224),
    "naflexvit_base_patch16_map": (224, 224),
    "vit_pe_core_tiny_patch16_384": (224, 224),
    "vit_small_patch14_reg4_dinov2": (224, 224),
    "deepseek_vit_412m": (224, 224),
    "gemma4_vit_167m": (224, 224),
    "qwen3_vit_306m": (224, 224),
    "mobilenetv5_base": (256, 256),
    "beit_base_patch16_224": (128, 128),
    "vit_base_patch16_siglip_gap_224": (128, 128),
    "vit_base_patch16_siglip_224": (128, 128),
    "samvit_base_patch16_224": (128, 128),
}


def timm_architectures() -> Iterator[Architecture]:
    """Yield small architectures of every module of timm, at their own size and some at a non-square one."""
    listed = [(group.partition(":")[0], name) for group in TIMM.split() for name in group.partition(":")[2].split(",")]
    for family, name in listed:
        yield _timm(family, name, _timm_size(name))
    for family, name in listed:
        if family in TIMM_OBLONG.split():
            yield _timm(family, name, _timm_oblong(name))


def _timm_size(name: str) -> Size:
    from timm.models import get_pretrained_cfg

    if name in _TIMM_SIZES:
        return _TIMM_SIZES[name]
    config = get_pretrained_cfg(name)
    side = config.input_size[-1] if config is not None else 224
    return (side, side)


def _timm_oblong(name: str) -> Size:
    """Return a non-square size: a multiple of 64, or of the patch size for networks of one stage."""
    if name.startswith(("efficientvim", "levit", "shvit")):  # a stride of 64
        return (256, 384)
    return (168, 252) if "patch14" in name else (128, 256)


def _timm(family: str, name: str, size: Size) -> Architecture:
    return Architecture(
        "timm",
        family,
        name,
        size,
        build=partial(_timm_network, name, size),
        expected=partial(_timm_grids, name, size),
    )


def _timm_network(name: str, size: Size) -> nn.Module:
    import timm

    resized = {"img_size": size} if size != _timm_size(name) or name in _TIMM_SIZES else {}
    try:
        network: nn.Module = timm.create_model(name, **resized)
    except TypeError:  # convolutional: accepts images of any size
        network = timm.create_model(name)
    if network.num_classes == 0:  # features of images, without a head
        network = timm.create_model(name, num_classes=10, **resized)
    return network


def _timm_grids(name: str, size: Size, module: Any) -> Grids:
    """Return the grids by the strides that timm states (``feature_info``), else by the grid of its patches."""
    if name in _TIMM_STRIDES:
        return by_stride(size, *_TIMM_STRIDES[name])
    stated = getattr(module, "feature_info", None)
    if stated:
        last = stated[-1] if isinstance(stated, list) else stated.get_dicts()[-1]
        return by_stride(size, last["reduction"])
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    return (tuple(grid),) if grid is not None else ()


# transformers ----------------------------------------------------------------------------------------------------

_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 8,
}
_STAGES = {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 4], "window_size": 4, "image_size": 64}
_PYRAMID = {
    "num_encoder_blocks": 4,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 24, 32],
    "num_attention_heads": [1, 1, 2, 2],
}
_TOWERS = {
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    },
    "vision_config": _VIT,
}

HF: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "beit": (_VIT, 8),
    "bit": ({"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_groups": 8}, 32),
    "clip": (_TOWERS, 8),
    "convnext": ({"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}, 32),
    "convnextv2": ({"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}, 32),
    "cvt": ({"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}, 16),
    "data2vec-vision": (_VIT, 8),
    "deit": (_VIT, 8),
    "dinat": ({"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "dilations": [[1], [1], [1]]}, 16),
    "dinov2": (_VIT, 8),
    "dinov2_with_registers": (_VIT, 8),
    "donut-swin": (_STAGES, 16),
    "efficientnet": ({"width_coefficient": 0.25, "depth_coefficient": 0.25, "image_size": 64, "hidden_dim": 320}, 32),
    "focalnet": (
        {
            "embed_dim": 16,
            "hidden_sizes": [32, 64, 64],
            "depths": [1, 1, 2],
            "focal_levels": [2, 2, 2],
            "focal_windows": [3, 3, 3],
        },
        16,
    ),
    "hgnet_v2": (
        {
            "stem_channels": [3, 8, 16],
            "embedding_size": 16,
            "stage_in_channels": [16, 16, 32, 48],
            "stage_mid_channels": [8, 8, 16, 16],
            "stage_out_channels": [16, 32, 48, 64],
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "stage_num_blocks": [1, 1, 1, 1],
            "stage_numb_of_layers": [2, 2, 2, 2],
        },
        32,
    ),
    "hiera": ({"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}, 32),
    "ijepa": (_VIT, 8),
    "levit": ({"hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 4], "depths": [1, 1, 1]}, 64),
    "metaclip_2": (_TOWERS, 8),
    "mobilenet_v1": ({"depth_multiplier": 0.25}, 32),
    "mobilenet_v2": ({"depth_multiplier": 0.35}, 32),
    "mobilevit": (
        {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 24, 32, 40, 64], "num_attention_heads": 2},
        32,
    ),
    "mobilevitv2": ({"width_multiplier": 0.25}, 32),
    "perceiver": (
        {
            "num_latents": 16,
            "d_latents": 32,
            "num_self_attends_per_block": 2,
            "image_size": 32,
            "num_self_attention_heads": 4,
        },
        1,
    ),
    "poolformer": ({"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}, 32),
    "pp_lcnet": ({"scale": 0.25}, 32),
    "pvt": (_PYRAMID | {"image_size": 64}, 32),
    "pvt_v2": (_PYRAMID, 32),
    "regnet": ({"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "groups_width": 4}, 32),
    "resnet": ({"embedding_size": 8, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}, 32),
    "segformer": (_PYRAMID, 32),
    "siglip": (_TOWERS, 8),
    "swiftformer": ({"embed_dims": [16, 16, 32, 48], "depths": [1, 1, 2, 1], "image_size": 64}, 32),
    "swin": (_STAGES, 16),
    "swinv2": (_STAGES, 16),
    "textnet": ({"stem_out_channels": 8, "hidden_sizes": [8, 8, 16, 24, 32]}, 32),
    "timm_wrapper": ({"architecture": "test_resnet"}, 32),
    "vit": (_VIT, 8),
    "vit_msn": (_VIT, 8),
}
"""By model type of transformers: configuration of a small network, and its total stride."""

HF_LEFT_OUT: Mapping[str, str] = {
    "imagegpt": "its input is a sequence of colour indices, not an image",
    "shieldgemma2": "a language model that answers yes or no, not a classifier of images alone",
    "siglip2": "its input is precomputed patches with a mask, not an image",
}
"""Model types that transformers registers as image classifiers, but whose input is no single image; and why."""


def hf_architectures() -> Iterator[Architecture]:
    """Yield a small network of every image classifier of transformers whose input is an image."""
    for family, (small, stride) in HF.items():
        side = _HF_SIDES.get(family, 64)
        for size in ((side, side), (side, side * 3 // 2)) if family in _HF_OBLONG else ((side, side),):
            yield Architecture(
                source="hf",
                family=family,
                name=family,
                size=size,
                build=partial(_hf, family, small),
                expected=_always(by_stride(size, stride)),
                keyword="inputs" if family == "perceiver" else "pixel_values",
            )


_HF_SIDES = {
    **dict.fromkeys(("hiera", "levit"), 224),
    **dict.fromkeys(("mobilevit", "pp_lcnet"), 256),
    **dict.fromkeys(
        ("bit", "convnext", "convnextv2", "cvt", "dinat", "efficientnet", "hgnet_v2", "mobilenet_v1", "mobilenet_v2",
         "mobilevitv2", "poolformer", "pvt_v2", "regnet", "resnet", "segformer", "textnet", "timm_wrapper"),
        128,
    ),
    "perceiver": 32,
}  # fmt: skip
"""By model type: side of the input in pixels; 64 where not listed."""

_HF_OBLONG = ("bit", "convnext", "convnextv2", "cvt", "poolformer", "pvt_v2", "regnet", "resnet", "segformer", "swin",
              "swinv2")  # fmt: skip


def _hf(family: str, small: Mapping[str, Any]) -> nn.Module:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    # Copies, because configurations keep and change the dictionaries that they are given.
    parts = {key: dict(value) if isinstance(value, dict) else value for key, value in small.items()}
    # The first of several classifiers of a family: the automatic class cannot choose without a checkpoint.
    name = CLASSES[family] if isinstance(CLASSES[family], str) else CLASSES[family][0]
    network: nn.Module = getattr(transformers, name)(transformers.AutoConfig.for_model(family, **parts))
    return network


SOURCES: Mapping[str, Callable[[], Iterator[Architecture]]] = {
    "torchvision": torchvision_architectures,
    "timm": timm_architectures,
    "hf": hf_architectures,
}

SAMPLE = (
    "torchvision:squeezenet1_1@224x224",  # a map of scores after the features
    "torchvision:shufflenet_v2_x0_5@224x224",
    "timm:test_resnet@160x160",
    "timm:test_resnet@128x256",
    "timm:test_vit@160x160",  # one class token
    "timm:test_vit@128x256",
    "timm:test_vit2@160x160",
    "timm:test_convnext@160x160",
    "timm:test_coatnet@160x160",
    "hf:swin@64x96",  # tokens without class token, in stages
    "hf:dinov2_with_registers@64x64",  # five prefix tokens
    "hf:cvt@128x128",  # a class token added late
    "hf:segformer@128x192",
    "hf:vit@64x64",
)
"""Small, fast networks of every kind of layout, run by continuous integration."""

"""What a user gets from ``import saywhy``, and what it costs."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import saywhy

EXTRAS = (
    "timm",
    "transformers",
    "lightning_fabric",
    "torchmetrics",
    "pycocotools",
    "h5py",
    "sklearn",
    "captum",
    "pytorch_grad_cam",
    "torchcam",
)
LATE = ("matplotlib", "typer", "rich", "jinja2", "scipy", "torchvision", "IPython", "saywhy.view.report")
"""Libraries that are imported only when they are needed."""


def loaded_by(code: str) -> set[str]:
    """Every module that a fresh Python has imported after this code."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_all_is_sorted_unique_and_resolvable() -> None:
    assert list(saywhy.__all__) == sorted(saywhy.__all__)
    assert len(set(saywhy.__all__)) == len(saywhy.__all__)
    for name in saywhy.__all__:
        assert hasattr(saywhy, name), name


def test_public_attributes_are_all_in_all() -> None:
    import types

    own = {
        name
        for name, value in vars(saywhy).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert own <= set(saywhy.__all__)


def test_lazy_names_are_public_and_not_loaded_on_import() -> None:
    late = {
        "saywhy.tasks",
        "saywhy.decoding",
        "saywhy.checks",
        "saywhy.metrics",
        "saywhy.benchmarking",
        "saywhy.concepts",
    }
    assert not late & loaded_by("import saywhy")
    assert "saywhy.tasks.vqa.ask" in loaded_by("from saywhy import ask")
    assert set(saywhy._ON_FIRST_USE) < set(saywhy.__all__) == set(dir(saywhy))
    assert "saywhy.checks" in loaded_by("import saywhy\nsaywhy.checks.CheckLimits()")
    with pytest.raises(AttributeError, match="module 'saywhy' has no attribute 'aks'"):
        saywhy.aks  # noqa: B018


@pytest.mark.parametrize("name", saywhy.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    assert (getattr(saywhy, name).__doc__ or "").strip()


def test_version_has_three_parts() -> None:
    assert version("saywhy").count(".") == 2


@pytest.mark.slow
def test_import_loads_no_optional_library() -> None:
    loaded = loaded_by("import saywhy")
    assert "saywhy" in loaded
    assert not [name for name in (*EXTRAS, *LATE) if name in loaded]


@pytest.mark.slow
def test_explaining_a_tensor_loads_no_optional_library() -> None:
    loaded = loaded_by(
        "import saywhy, torch\nfrom torch import nn\n"
        "n = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        "saywhy.explain(n, torch.rand(1, 3, 9, 9), target=0, relu=False).maps"
    )
    assert not [name for name in (*EXTRAS, *LATE) if name in loaded]

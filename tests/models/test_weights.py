"""Weights: read without executing anything, loaded completely or not at all, and refused with a clear message."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

import saywhy
from saywhy.errors import WeightsError
from saywhy.models.weights import load_weights, read_weights

Build = Callable[..., nn.Module]


class Hostile:
    """Unpickled, it runs a command: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def assert_refused(network: nn.Module, path: Path, *words: str) -> None:
    """A WeightsError with these words, and every weight of the network as it was."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, path)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"
    assert "\n" not in str(caught.value)
    for name, tensor in network.state_dict().items():
        assert torch.equal(
            tensor,
            before[name],
        ) or bool(tensor.isnan().any())


def assert_loaded(network: nn.Module, path: Path, state: dict[str, Tensor]) -> None:
    load_weights(network, path)
    for name, tensor in network.state_dict().items():
        if name in state:
            torch.testing.assert_close(tensor, state[name].to(tensor.dtype))


@pytest.fixture
def state(tiny: Build) -> dict[str, Tensor]:
    """Weights that are not those of ``tiny()``."""
    return dict(tiny(seed=7).state_dict())


def test_safetensors_are_loaded(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    assert_loaded(tiny(), tmp_path / "a.safetensors", state)


def test_safetensors_with_another_suffix_are_loaded(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "pytorch_model.bin")
    assert_loaded(tiny(), tmp_path / "pytorch_model.bin", state)


def test_torch_state_dict_is_loaded(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    assert_loaded(tiny(), tmp_path / "a.pt", state)


def test_torch_state_dict_in_legacy_format_is_loaded(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert_loaded(tiny(), tmp_path / "a.pth", state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "state_dict_ema", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_state_dict_within_checkpoint_is_loaded(
    tiny: Build, state: dict[str, Tensor], tmp_path: Path, key: str, prefix: str
) -> None:
    wrapped = {"epoch": 3, key: {prefix + name: tensor for name, tensor in state.items()}, "best": 0.5}
    torch.save(wrapped, tmp_path / "a.ckpt")
    assert_loaded(tiny(), tmp_path / "a.ckpt", state)


def test_half_precision_weights_are_cast(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    half = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
    save_file(half, tmp_path / "a.safetensors")
    network = tiny()
    assert_loaded(network, tmp_path / "a.safetensors", half)
    assert next(network.parameters()).dtype == torch.float32


def test_missing_num_batches_tracked_is_allowed(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    few = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    assert len(few) < len(state)
    save_file(few, tmp_path / "a.safetensors")
    assert_loaded(tiny(), tmp_path / "a.safetensors", few)


def test_tied_weights_are_loaded(tmp_path: Path) -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        network[2].weight = network[0].weight
        return network

    network = build()
    save_model(network, str(tmp_path / "a.safetensors"))
    assert len(read_weights(tmp_path / "a.safetensors")) == 3
    assert_loaded(build(), tmp_path / "a.safetensors", network.state_dict())


# --- what does not fit -------------------------------------------------------------------------------------------


def test_weights_of_another_architecture_raise(tiny: Build, tmp_path: Path) -> None:
    save_file(dict(nn.Linear(3, 2).state_dict()), tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", "do not fit TinyNetwork", "missing", "2 not in the network")


def test_missing_weight_raises(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    del state["fc.bias"]
    save_file(state, tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", "1 missing (fc.bias)", "architecture")


def test_unexpected_weight_raises(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({**state, "head.extra": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", "1 not in the network (head.extra)")


def test_weight_of_another_shape_raises(tiny: Build, tmp_path: Path) -> None:
    save_file(dict(tiny(classes=9).state_dict()), tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", "fc.weight is [9, 6], not [4, 6]", "of another shape")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_non_finite_weights_raise(tiny: Build, state: dict[str, Tensor], tmp_path: Path, wrong: float) -> None:
    state["hidden.weight"][0, 0] = wrong
    save_file(state, tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", "not finite", "'hidden.weight'", "NaN or infinity")


# --- what is no weights file, or a hostile one -------------------------------------------------------------------


def test_missing_file_raises(tiny: Build, tmp_path: Path) -> None:
    assert_refused(tiny(), tmp_path / "a.pt", "no weights file", "a.pt")
    assert_refused(tiny(), tmp_path, "no weights file")


def test_misspelt_file_raises_with_nearest_name(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "resnet.safetensors")
    assert_refused(tiny(), tmp_path / "resnt.safetensors", "Nearest", "'resnet.safetensors'")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no weights file\n" * 9, bytes(range(256)) * 4, b"PK\x03\x04" + b"x" * 99]
)
def test_files_without_weights_raise(tiny: Build, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert_refused(tiny(), tmp_path / name, name)


@pytest.mark.parametrize("wrap", [lambda h: h, lambda h: {"state_dict": h}, lambda h: {"a": torch.zeros(1), "b": h}])
@pytest.mark.parametrize("save", ["torch", "torch, old format", "pickle"])
def test_hostile_pickle_raises_and_is_not_executed(tiny: Build, tmp_path: Path, wrap: Any, save: str) -> None:
    harm = tmp_path / "harm"
    with (tmp_path / "a.pt").open("wb") as file:
        if save == "pickle":
            pickle.dump(wrap(Hostile(harm)), file)
        else:
            torch.save(wrap(Hostile(harm)), file, _use_new_zipfile_serialization=save == "torch")
    assert_refused(tiny(), tmp_path / "a.pt", "a.pt", "refused", "safetensors")
    assert not harm.exists()
    pickle_would_have = torch.load  # the file is what it says it is: without our care it does its harm
    try:
        pickle_would_have(tmp_path / "a.pt", weights_only=False)
    except Exception:
        with (tmp_path / "a.pt").open("rb") as file:
            pickle.load(file)
    assert harm.exists()


def test_pickled_module_raises(tiny: Build, tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "a.pt")
    assert_refused(tiny(), tmp_path / "a.pt", "refused", "code", "state dict")


def test_torchscript_file_raises(tmp_path: Path, tiny: Build) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning)):
        torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "a.pt"))
    assert_refused(tiny(), tmp_path / "a.pt", "a.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_truncated_files_raise(tiny: Build, state: dict[str, Tensor], tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    save_file(state, path) if name.endswith("safetensors") else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert_refused(tiny(), path, name)


@pytest.mark.parametrize("held", [[1, 2], 3, "cat", {"epoch": 1}, {"state_dict": {"a": 1}}, {}, torch.zeros(3)])
def test_files_without_state_dict_raise(tiny: Build, tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "a.pt")
    assert_refused(tiny(), tmp_path / "a.pt", "must hold a state dict")


def test_load_applies_weights_to_a_given_network(tiny: Build, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    wanted = tiny(seed=7).fc.weight
    assert torch.equal(saywhy.load(tiny(), weights=tmp_path / "a.safetensors").module.fc.weight, wanted)
    model = saywhy.load(saywhy.load(tiny()), weights=tmp_path / "a.safetensors")
    assert torch.equal(model.module.fc.weight, wanted)
    network = tiny()
    assert torch.equal(saywhy.load(network, weights="random").module.fc.weight, tiny().fc.weight)


class TestHostileFiles:
    def compressed(self, path: Path, count: int) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                with archive.open(f"archive/data/{number}", "w") as entry:
                    entry.write(bytes(2**20))

    def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("saywhy.io.limits.MAX_BYTES", 5 * 2**20)
        self.compressed(tmp_path / "a.pt", 6)
        with pytest.raises(WeightsError, match=r"before it is read: it would take 6,291,456 .*SAYWHY_MAX_BYTES"):
            read_weights(tmp_path / "a.pt")
        monkeypatch.setenv("SAYWHY_MAX_BYTES", "7000000")
        with pytest.raises(WeightsError, match="not a weights file"):
            read_weights(tmp_path / "a.pt")

    def test_a_file_may_be_larger_than_the_limit(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("saywhy.io.limits.MAX_BYTES", 100)
        torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt")
        assert len(read_weights(tmp_path / "a.pt")["w"]) == 1000

    @pytest.mark.parametrize("old", [True, False])
    def test_nested_tuples_are_refused_at_once(self, tmp_path: Path, old: bool) -> None:
        pickled = b"\x80\x02}" + b"K\x01" + b"2\x86" * 60 + b"K\x01s."  # a key whose hash takes 2^60 steps
        if old:
            (tmp_path / "a.pt").write_bytes(pickled)
        else:
            with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
                archive.writestr("a/data.pkl", pickled)
        with pytest.raises(WeightsError, match="nests tuples"):
            read_weights(tmp_path / "a.pt")

    def test_a_long_pickle_is_refused(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr("saywhy.models.torch_file._OPCODES", 100)
        (tmp_path / "a.pt").write_bytes(b"\x80\x02" + b"N0" * 100 + b"N.")
        with pytest.raises(WeightsError, match="more than 100 instructions"):
            read_weights(tmp_path / "a.pt")

    def test_a_flipped_bit_of_a_weight_is_refused(self, tmp_path: Path) -> None:
        torch.save({"w": torch.arange(40.0)}, tmp_path / "a.pt")
        data = bytearray((tmp_path / "a.pt").read_bytes())
        data[data.index(torch.arange(40.0).numpy().tobytes()) + 9] ^= 1
        (tmp_path / "a.pt").write_bytes(data)
        with pytest.raises(WeightsError, match=r"'.*a\.pt' is damaged: the contents of '.*data/0'"):
            read_weights(tmp_path / "a.pt")

    def test_weights_saved_without_checksums_are_read(self, tmp_path: Path) -> None:
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({"w": torch.arange(40.0)}, tmp_path / "a.pt")
        finally:
            torch.serialization.set_crc32_options(before)
        assert read_weights(tmp_path / "a.pt")["w"].tolist() == list(range(40))

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            (lambda: {0: torch.ones(2)}, "the key 0 .int."),
            (lambda: {"w": torch.ones(2, device="meta")}, "'w' is on the device 'meta'"),
            (lambda: {"w": torch.eye(2).to_sparse()}, "'w' is stored as sparse_coo"),
            (lambda: {"w": torch.eye(2).to_sparse_csr()}, "'w' is stored as sparse_csr"),
            (lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "'w' is quantised"),
            (lambda: {("a", "b"): 1, 3: 4}, "a mapping with"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantize_per_tensor")
    def test_tensors_that_hold_no_plain_values_are_named(self, tmp_path: Path, state: Any, words: str) -> None:
        torch.save(state(), tmp_path / "a.pt")
        with pytest.raises(WeightsError, match=words):
            read_weights(tmp_path / "a.pt")

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
    def test_small_floats_are_cast(self, tiny: Build, tmp_path: Path, dtype: torch.dtype) -> None:
        state = {name: torch.ones_like(tensor).to(dtype) for name, tensor in tiny().state_dict().items()}
        save_file(state, tmp_path / "a.safetensors")
        module = tiny()
        load_weights(module, tmp_path / "a.safetensors")
        assert all((tensor == 1).all() for tensor in module.state_dict().values())

    def test_a_network_with_packed_weights_is_named(self, tmp_path: Path) -> None:
        class Packed(nn.Linear):
            def get_extra_state(self) -> Any:
                return (1, 2)

        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
        with pytest.raises(WeightsError, match="_extra_state"):
            load_weights(Packed(2, 2), tmp_path / "a.pt")

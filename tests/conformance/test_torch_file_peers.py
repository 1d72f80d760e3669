"""Files that PyTorch wrote, in both of its formats, read without it."""

import numpy as np
import pytest

from ddpm_keras.interop import torch_file


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(torch, tmp_path, request):
    def save(value):
        path = tmp_path / "weights.bin"
        torch.save(value, path, _use_new_zipfile_serialization=request.param)
        return path

    return save


def example_state(torch):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(3, 5).bfloat16()
    )
    state = network.state_dict()
    state["view"] = torch.arange(12.0).reshape(3, 4).T[1:]
    state["half"] = torch.linspace(-3, 3, 7, dtype=torch.float16)
    state["flags"] = torch.tensor([True, False])
    return state


def test_a_state_dict(torch, save):
    state = example_state(torch)
    found = torch_file.load_state_dict(save(state))
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert found[name].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(found[name], expected.numpy())


def test_a_checkpoint_that_holds_a_state_dict(torch, save):
    state = example_state(torch)
    weight = torch.nn.Parameter(torch.randn(2, 3))
    found = torch_file.load_state_dict(save({"model": state, "step": 5, "weight": weight}))
    assert found["step"] == 5
    np.testing.assert_array_equal(found["weight"], weight.detach().numpy())
    np.testing.assert_array_equal(found["model"]["0.weight"], state["0.weight"].numpy())


def test_a_whole_module_is_refused_by_name(torch, save):
    with pytest.raises(ValueError, match="torch.nn.modules.linear.Linear"):
        torch_file.load_state_dict(save(torch.nn.Linear(2, 2)))

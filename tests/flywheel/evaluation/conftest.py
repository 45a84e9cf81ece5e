import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on small arrays wait for each other where the machine is busy."""
    torch.set_num_threads(1)

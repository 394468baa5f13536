import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Networks this small lose by a second thread, much if anything else computes on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

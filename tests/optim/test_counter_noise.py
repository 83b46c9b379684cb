"""Random bits by place, and what is rounded with them."""

import torch

from lmmcl.optim.counter_noise import key_of, noise, round_stochastically, unit

NOWHERE = torch.empty(1 << 16)


def words(key: int, start: int = 0, count: int = 1 << 16) -> torch.Tensor:
    return noise(key, NOWHERE, start, count, NOWHERE.device)


def test_a_part_has_the_bits_of_its_place_in_the_whole() -> None:
    assert torch.equal(words(7)[100:200], words(7, 100, 100))
    assert not torch.equal(words(7), words(8))


def test_every_bit_is_set_half_of_the_time_and_neighbours_are_independent() -> None:
    bits = torch.stack([(words(key_of(1, 2, "w")) >> place) & 1 for place in range(64)]).double()
    assert ((bits.mean(dim=1) - 0.5).abs() < 0.01).all()
    assert abs(float(torch.corrcoef(torch.stack([bits[0, :-1], bits[0, 1:]]))[0, 1])) < 0.02
    chance = unit(words(3))
    assert float(chance.min()) >= 0 and float(chance.max()) < 1
    assert abs(float(chance.mean()) - 0.5) < 0.01


def test_rounding_keeps_the_mean_and_goes_to_one_of_two_neighbours() -> None:
    third = torch.full((1 << 16,), 1 + 2**-7 / 3)
    rounded = round_stochastically(third, words(5))
    assert set(rounded.tolist()) == {1.0, 1 + 2**-7}
    assert abs(float(rounded.double().mean()) - float(third[0])) < 1e-4


def test_what_bf16_holds_and_what_is_not_finite_stay_as_they_are() -> None:
    values = torch.tensor([0.0, -0.0, 1.5, -3.0, 1e-40, torch.inf, -torch.inf])
    exact = values.bfloat16().float()
    assert torch.equal(round_stochastically(exact, words(1, 0, len(exact))).float(), exact)
    assert round_stochastically(torch.full((9,), torch.nan), words(1, 0, 9)).isnan().all()

"""What a run needs of each device: exact for the state, by strategy."""

from functools import cache

from lmmcl.callbacks import EMA, EWC, L2SP, MAS, SFA, SI, LwF, WiSEFT
from lmmcl.mitigation import Mitigation
from lmmcl.preflight.activations import Shape
from lmmcl.preflight.fit_memory import check_memory
from lmmcl.preflight.memory import Load, Need, Place, need_of
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from tests.structure.test_anatomy import qwen2_7b

GB = 10**9


@cache
def model() -> tuple[Anatomy, Shape]:
    built = qwen2_7b()
    anatomy = Anatomy.of(built)
    shape = Shape.of(built.config, 28, len(anatomy.vision_blocks))
    assert shape is not None
    return anatomy, shape


def need(place: Place, recipe: str = "sa_proj", load: Load | None = None) -> Need:
    anatomy, shape = model()
    return need_of(anatomy, shape, [Recipe.parse(recipe).resolve(anatomy)], 2, place, load)


def counts(recipe: str = "sa_proj") -> tuple[int, int]:
    anatomy, _ = model()
    trained = sum(anatomy.numel[name] for name in Recipe.parse(recipe).resolve(anatomy))
    return trained, sum(anatomy.numel.values())


def test_the_shape_of_a_published_model_is_read_from_its_config() -> None:
    _, shape = model()
    assert (shape.hidden, shape.inner, shape.queries, shape.keys, shape.heads) == (3584, 18944, 3584, 512, 28)
    assert (shape.vocabulary, shape.layers, shape.patch) == (152064, 28, 3 * 14**2)


def test_a_trained_parameter_takes_16_bytes_and_a_frozen_one_2() -> None:
    trained, everything = counts()
    assert need(Place()).state == 16 * trained + 2 * (everything - trained)


def test_pure_fp32_holds_all_in_4_bytes_and_casts_nothing() -> None:
    trained, everything = counts()
    found = need(Place(bf16=False))
    assert found.weights == 4 * everything
    assert found.copies == 0
    assert need(Place()).copies == 2 * trained


def test_ddp_adds_buckets_and_mitigations_their_copies() -> None:
    trained, _ = counts()
    assert need(Place("ddp", 2)).state - need(Place()).state == 4 * trained
    for mitigations, copies in (
        ([LwF(), WiSEFT(), SFA()], 1),
        ([EWC()], 2),
        ([MAS()], 2),
        ([SI(), LwF()], 3),
        ([EMA(), L2SP()], 2),
        ([EWC(weight=0), Mitigation()], 0),
    ):
        found = need(Place(callbacks=mitigations))
        assert found.state - need(Place()).state == found.kept == 4 * copies * trained


def test_fsdp2_shares_the_state_out_and_gathers_two_layers_and_the_root() -> None:
    anatomy, _ = model()
    alone, shared = need(Place()), need(Place("fsdp2", 8))
    assert abs(8 * shared.state - alone.state) < 8 * 8
    layer = sum(count for name, count in anatomy.numel.items() if ".layers.3." in name and "language" in name)
    root = (
        sum(anatomy.numel.values())
        - 28 * layer
        - sum(count for name, count in anatomy.numel.items() if any(b in name for b in anatomy.vision_blocks))
    )
    assert shared.copies == 2 * (root + 2 * layer)


def test_a_tensor_parallel_group_gathers_its_part_of_the_layers_and_takes_the_same_rows() -> None:
    anatomy, _ = model()
    apart, groups = need(Place("fsdp2", 8)), need(Place("fsdp2", 8, tensor_parallel=2))
    layer = [name for name in anatomy.numel if ".layers.3." in name and "language" in name]
    cut = sum(anatomy.numel[n] for n in layer if anatomy.group_of(n).startswith(("llm.attn.", "llm.mlp.")))
    assert apart.copies - groups.copies == 2 * 2 * (cut - cut // 2)
    assert apart.state < groups.state < 2 * apart.state  # what is not cut lies in 4 shards instead of 8
    assert (Place("fsdp2", 8).shares, Place("fsdp2", 8, tensor_parallel=2).shares) == (8, 4)


def test_checkpointing_is_told_beside_the_plain_number_and_taken_where_it_is_set() -> None:
    load = Load(samples=4, length=2000, pixels=0, answers=8, prompts=8, prompt=2000)
    plain, set_ = need(Place(), load=load), need(Place(checkpointing=True), load=load)
    assert plain.activations > 5 * plain.checkpointed == 5 * set_.activations > 0
    said = next(iter(check_memory(plain, Place(), load))).text
    assert "4 × 2,000 tokens" in said
    assert "with model.activation_checkpointing" in said


def levels(device: int, load: Load | None = None) -> list[str]:
    place = Place(device=device)
    return [finding.level for finding in check_memory(need(place, load=load), place, load)]


def test_too_little_for_the_state_fails_too_little_for_samples_warns() -> None:
    load = Load(samples=4, length=2000, pixels=0, answers=8, prompts=1, prompt=100)
    assert levels(24 * GB, load) == ["failure", "ok"]
    assert levels(40 * GB, load) == ["warning", "ok"]
    assert levels(200 * GB, load) == ["ok", "ok"]


def test_large_batches_of_generation_warn_with_the_key_to_lower() -> None:
    load = Load(samples=1, length=100, pixels=0, answers=8, prompts=64, prompt=8000)
    place = Place(device=60 * GB)
    last = list(check_memory(need(place, load=load), place, load))[-1]
    assert last.level == "warning"
    assert "HeldOutEvaluation.batch_size" in last.text


def test_what_is_not_known_is_said() -> None:
    assert levels(200 * GB, None) == ["warning", "ok"]

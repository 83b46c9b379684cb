"""Ways to train are called by what sets them apart."""

from typing import Any

from lmmcl.report.way_names import value_text, way_names


def way(recipe: Any = "sa_proj", *callbacks: str, **more: Any) -> dict[str, Any]:
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    return {"model.recipe": recipe, "callbacks": list(callbacks), **dotted}


def test_recipes_and_what_fights_forgetting() -> None:
    ways = [way("sa_proj"), way("mlp_gate_up", "LwF"), way(["sa_proj", "mlp_gate_up"])]
    assert way_names(ways) == ["sa_proj", "mlp_gate_up + LwF", "sa_proj + mlp_gate_up"]


def test_a_recipe_that_all_share_is_left_out() -> None:
    assert way_names([way("full"), way("full", "EWC"), way("full", "LwF", "WiSEFT")]) == [
        "plain",
        "EWC",
        "LwF + WiSEFT",
    ]


def test_other_settings_are_named_where_they_set_apart() -> None:
    ways = [way(model__lr=1e-3), way(model__lr=5e-4), way("full", model__lr=1e-3)]
    assert way_names(ways) == ["sa_proj, lr 0.001", "sa_proj, lr 0.0005", "full"]
    assert way_names([way(model__lr=1e-3), way(model__lr=5e-4)]) == ["lr 0.001", "lr 0.0005"]


def test_strengths_of_one_mitigation() -> None:
    ways = [way("full", "LwF", LwF__weight=1.0), way("full", "LwF", LwF__weight=2.0)]
    assert way_names(ways) == ["LwF.weight 1", "LwF.weight 2"]


def test_orders_are_called_by_their_first_task() -> None:
    assert way_names([way(order=["a", "b"]), way(order=["b", "a"])]) == ["a first", "b first"]


def test_one_way_has_the_name_of_its_recipe_and_no_two_have_the_same() -> None:
    assert way_names([way("full", "LwF")]) == ["full + LwF"]
    names = way_names([way(order=["a", "b", "c"]), way(order=["a", "c", "b"])])
    assert len(set(names)) == 2


def test_a_fingerprint_is_cut() -> None:
    assert value_text(["general", "ab" * 32]) == "general, abababababab…"


def test_values_are_readable() -> None:
    assert [value_text(v) for v in (None, True, 1e-4, ["a", "b"], [])] == [
        "–",
        "yes",
        "0.0001",
        "a, b",
        "none",
    ]

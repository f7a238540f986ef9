"""Plans, the cells that they come to, and which cells a change makes anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_world import TinyWorld

from allmrec.core.errors import ConfigError, DataError
from allmrec.experiments.cells import Prepared, cell_config, cells_of
from allmrec.experiments.plan import Plan, load_plan, only, plan_names, plan_text
from allmrec.testing.worlds import taste_world

DATA = taste_world(users=24, tastes=3, items_per_taste=12, length=6)


def plan_of(world: TinyWorld, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "title": "Mine",
        "recipe": str(world.recipe),
        "systems": ["popularity", "item-knn", "backbone", "allmrec-select", "mlp-llm"],
        "data": {"a": {"path": "somewhere"}},
    }
    return Plan.model_validate({**values, **changes})


def keys(plan: Plan) -> dict[str, str]:
    prepared = Prepared(plan, dict.fromkeys(plan.data, DATA))
    return {cell.id: prepared.key(cell) for cell in prepared.cells}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Systems whose cells must be measured again."""
    assert before.keys() == after.keys()
    return {name.rpartition(".")[2] for name in before if before[name] != after[name]}


def test_cells_are_all_combinations(tiny_world: TinyWorld) -> None:
    plan = plan_of(
        tiny_world, systems=["backbone"], seeds=[0, 1], variants={"gru": {"changes": {"pretrain.backbone": "gru4rec"}}},
        scenarios={"standard": {"kind": "standard"}, "few": {"kind": "few-shot", "users": 8}},
    )  # fmt: skip
    assert [cell.id for cell in cells_of(plan)] == [
        f"a.{scenario}.{seed}.{variant}.backbone"
        for scenario in ("standard", "few")
        for seed in (0, 1)
        for variant in ("base", "gru")
    ]
    assert len(set(keys(plan).values())) == 8


def test_across_domains_goes_from_each_set_to_the_next(tiny_world: TinyWorld) -> None:
    plan = plan_of(
        tiny_world, systems=["text-similarity"], scenarios={"across": {"kind": "cross-domain"}},
        data={name: {"path": name} for name in "abc"},
    )  # fmt: skip
    assert [cell.data for cell in cells_of(plan)] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "systems"),
    [
        ({}, set()),
        ({"title": "Other words", "claims": [{"text": "x", "better": "backbone", "than": "popularity"}]}, set()),
        ({"changes": {"systems.item-knn": {"neighbours": 5}}}, {"item-knn"}),
        ({"changes": {"tune.training.learning_rate": 0.5}}, {"allmrec-select", "mlp-llm"}),
        ({"changes": {"align.joint_dim": 4}}, {"allmrec-select"}),
        ({"changes": {"answer.batch_size": 3}}, {"allmrec-select", "mlp-llm"}),
        ({"users": 7}, {"popularity", "item-knn", "backbone", "allmrec-select", "mlp-llm"}),
        ({"users_of": {"item-knn": 3}}, {"item-knn"}),
        ({"seeds_of": {"item-knn": 1}}, set()),
        ({"title_users": 9}, {"allmrec-select", "mlp-llm"}),
        ({"order_test": True}, {"popularity", "item-knn", "backbone", "allmrec-select", "mlp-llm"}),
        ({"seeds": [5]}, None),
    ],
)
def test_a_change_makes_only_those_cells_anew_whose_figures_it_may_change(
    changes: dict[str, Any], systems: set[str] | None, tiny_world: TinyWorld
) -> None:
    before, after = keys(plan_of(tiny_world)), keys(plan_of(tiny_world, **changes))
    if systems is None:
        assert not before.keys() & after.keys()
    else:
        assert changed(before, after) == systems


def test_what_the_seed_decides_has_a_key_for_each(tiny_world: TinyWorld) -> None:
    """Of systems without stages too: whom they count, and how ties of a whole catalogue are broken."""
    few = {"few": {"kind": "few-shot", "users": 6}}
    for changes, seeds in (({}, 1), ({"scenarios": few}, 2), ({"ask": "catalogue"}, 2)):
        plan = plan_of(tiny_world, systems=["popularity"], seeds=[0, 1], **changes)
        assert len(set(keys(plan).values())) == seeds, changes


def test_some_systems_may_have_fewer_seeds(tiny_world: TinyWorld) -> None:
    """In every variant of the recipe; the first of the plan's seeds."""
    variants = {"wide": {"changes": {"pretrain.model.dim": 32}, "systems": ["backbone"]}}
    plan = plan_of(
        tiny_world, systems=["popularity", "backbone"], variants=variants, seeds=[4, 2, 9], seeds_of={"backbone": 2}
    )
    seeds: dict[str, list[int]] = {}
    for cell in cells_of(plan):
        seeds.setdefault(cell.row, []).append(cell.seed)
    assert seeds == {"popularity": [4, 2, 9], "backbone": [4, 2], "wide/backbone": [4, 2]}


def test_rows_that_are_left_out_have_no_cells_and_keep_their_claims(tiny_world: TinyWorld) -> None:
    variants = {"wide": {"changes": {"pretrain.model.dim": 32}, "systems": ["backbone"]}}
    claims = [{"text": "wider is better", "better": "wide/backbone", "than": "backbone"}]
    plan = plan_of(
        tiny_world, systems=["ease", "backbone"], variants=variants, claims=claims, without=["wide/backbone", "ease"]
    )
    assert [cell.row for cell in cells_of(plan)] == ["backbone"]
    assert len(plan.claims) == 1
    assert keys(plan).items() < keys(plan.model_copy(update={"without": ()})).items()
    # Who names rows wants them measured.
    assert [cell.row for cell in cells_of(only(plan, ["wide/backbone"]))] == ["wide/backbone"]


def test_a_variant_on_shuffled_histories_trains_its_own_stages(tiny_world: TinyWorld) -> None:
    plan = plan_of(tiny_world, systems=["backbone"], variants={"shuffled": {"shuffled_training": True}})
    prepared = Prepared(plan, {"a": DATA})
    own, shuffled = prepared.cells
    assert not prepared.stages(own) & prepared.stages(shuffled)
    assert prepared.key(own) == keys(plan_of(tiny_world, systems=["backbone"]))[own.id]


def test_stages_are_the_same_where_cells_can_share_them(tiny_world: TinyWorld) -> None:
    plan = plan_of(tiny_world, seeds=[0, 1], variants={"wide": {"changes": {"tune.prompt.projection.hidden": 16}}})
    prepared = Prepared(plan, {"a": DATA})
    by_id = {cell.id: prepared.stages(cell) for cell in prepared.cells}
    own, wide = by_id["a.standard.0.base.allmrec-select"], by_id["a.standard.0.wide.allmrec-select"]
    assert by_id["a.standard.0.base.backbone"] < own
    assert len(own - wide) == 1  # stage 2 alone
    assert not own & by_id["a.standard.1.base.backbone"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is no TOML"),
        ('title = "x"\nsystms = ["backbone"]', "systms: no such field; did you mean systems"),
        ('title = "x"', "no systems are named"),
        ('title = "x"\nsystems = ["sasrecc"]', "There is no system 'sasrecc'"),
        ('title = "x"\nsystems = ["backbone"]\nseeds = []', "seeds"),
        ('title = "x"\nsystems = ["backbone"]\nusers_of.backbne = 3', "There is no system 'backbne'"),
        ('title = "x"\nsystems = ["backbone"]\nusers_of.backbone = 0', "greater than or equal to 1"),
        ('title = "x"\nsystems = ["backbone"]\nseeds_of.backbne = 3', "There is no system 'backbne'"),
        ('title = "x"\nsystems = ["backbone"]\nseeds_of.backbone = 0', "greater than or equal to 1"),
        ('title = "x"\nsystems = ["backbone"]\nwithout = ["ease", ""]', "`without` names 'ease', ''; the plan has backbone"),
        ('title = "x"\nsystems = ["backbone"]\nwithout = ["backbone"]', "`without` leaves no row to measure"),
        ('title = "x"\nsystems = ["backbone"]\n[data.a]\n', "either a path of prepared data, or a source"),
        ('title = "x"\nsystems = ["backbone"]\n[data."a/b"]\npath = "x"', "'a/b' names something"),
        ('title = "x"\nsystems = ["backbone"]\n[scenarios.s]\nkind = "cold"', "does not match any of the expected tags"),
        ('title = "x"\nsystems = ["backbone"]\n[[claims]]\ntext = "t"\nbetter = "ease"\nthan = "backbone"', "claims or the paper's rows are of ease"),
        ('title = "x"\nsystems = ["backbone"]\n[[claims]]\ntext = "t"\nbetter = "backbone"\nmetric = "Hit@3"', "claims are about Hit@3; figures of this plan are Hit@1"),
        ('title = "x"\nsystems = ["backbone"]\n[[claims]]\ntext = "t"\nbetter = "backbone"\ngroup = "cold"', "of the group 'cold'; its scenario has all users"),
        ('title = "x"\nsystems = ["backbone"]\n[[claims]]\ntext = "t"\nbetter = "backbone"\nscenario = "k"', "of scenario 'k'; this plan has standard"),
        ('title = "x"\nsystems = ["allmrec"]\nask = "genres"\norder_test = true', "order_test is for ranks"),
        ('title = "x"\nsystems = ["backbone"]\nseeds = [0, 1, 0]', "seeds are 0, 1, 0; expected each once"),
        ('title = "x"\nsystems = ["backbone"]\nvariants.v.systems = []', "no system is asked of the variant v"),
        ('title = "x"\nvariants.u = {}\nvariants.v.systems = ["ease"]', "no system is asked of the variant u"),
        ('title = "x"\nsystems = ["ease"]\nreference = "eas"', "compares with 'eas'"),
        ('title = "x"\nsystems = ["ease"]\nreference = "backbone"', "compares with 'backbone' .reference., which it does not ask"),
        ('title = "x"\nsystems = ["ease"]\nreference = "gru/ease"', "compares with 'gru/ease'"),
        ('title = "x"\nsystems = ["ease"]\nchanges.seed = 5', "changes seed, which a plan says by its own fields"),
        ('title = "x"\nsystems = ["ease"]\nchanges = { "evaluation.users" = 5 }', "changes evaluation.users, which a plan says"),
        ('title = "x"\nsystems = ["ease"]\nchanges.evaluation.candidates = 5', "changes evaluation.candidates, which a plan says"),
        ('title = "x"\nsystems = ["ease"]\ndata.a = { path = "x", changes = { seed = 2 } }', "changes seed, which a plan says"),
        ('title = "x"\nsystems = ["ease"]\nvariants.v.changes.evaluation.order_test = true', "changes evaluation.order_test"),
        ('title = "x"\nsystems = ["allmrec"]\nvariants.other.exchanged_vectors = true', "vectors of other are exchanged"),
        ('title = "x"\nsystems = ["allmrec"]\nask = "genres"\nscenarios.x.kind = "cross-domain"', "across domains systems rank candidates alone"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_in_words(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_plan(str(tmp_path / "plan.toml"))


@pytest.mark.parametrize("changes", [{"seed": 3}, {"evaluation.users": 3}, {"evaluation": {"candidates": 3}}])
def test_options_that_a_plan_would_not_heed_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"which a plan says by its own fields: seeds, users"):
        load_plan("table1", {"changes": changes})


def test_rows_may_be_left_out_although_others_are_compared_with_them() -> None:
    plan = load_plan("table7")
    assert only(plan, ["allmrec-sbert"]).reference == plan.reference == "text-similarity"


@pytest.mark.parametrize("where", ["plan", "data", "variant"])
def test_changes_as_groups_and_as_single_fields_are_the_same(where: str, tiny_world: TinyWorld, tmp_path: Path) -> None:
    """`[changes]` with `tune.training.learning_rate = 0.5` is a group of a group in TOML."""
    table = {"plan": "changes", "data": "data.a.changes", "variant": "variants.v.changes"}[where]
    made = []
    for name in ("tune.training.learning_rate", '"tune.training.learning_rate"'):
        file = tmp_path / f"{len(made)}.toml"
        file.write_text(
            f'title = "x"\nrecipe = "{tiny_world.recipe}"\nsystems = ["allmrec"]\n[data.a]\npath = "a"\n'
            f'[variants.v]\nsystems = ["mlp-llm"]\n[{table}]\n{name} = 0.5\n'
        )
        plan = load_plan(str(file), {"changes": {"tune.training.batch_size": 3}})
        made.append([cell_config(plan, cell) for cell in cells_of(plan)])
    assert made[0] == made[1]
    last = made[0][-1].tune
    assert (last.training.learning_rate, last.training.batch_size, last.samples_per_epoch) == (0.5, 3, 8)


def test_only_what_is_a_path_leads_from_the_plans_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder beside the plan may be called as a recipe or a column is; and nothing is looked for elsewhere."""
    plans, elsewhere = tmp_path / "plans", tmp_path / "elsewhere"
    for folder in (plans / "cpu", plans / "buyer", plans / "mine", elsewhere / "shop"):
        folder.mkdir(parents=True)
    (plans / "own.toml").write_text("")
    (plans / "plan.toml").write_text(
        'title = "x"\nrecipe = "cpu"\nsystems = ["ease"]\n[data.a]\npath = "shop"\nrecipe = "own.toml"\n'
        '[data.b]\nsource = "table"\noptions = { interactions = "log.csv", user = "buyer", item = "cpu" }\n'
    )
    monkeypatch.chdir(elsewhere)
    plan = load_plan(str(plans / "plan.toml"))
    assert plan.recipe == "cpu"
    assert (plan.data["a"].path, plan.data["a"].recipe) == (str(plans / "shop"), str(plans / "own.toml"))
    assert plan.data["b"].options == {"interactions": str(plans / "log.csv"), "user": "buyer", "item": "cpu"}
    kept = plan.with_paths_from(plans)
    assert kept.data["a"].recipe == "own.toml"
    assert kept.with_whole_paths(plans) == plan


def test_a_plan_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no plan 'table99': neither a file nor one of"):
        load_plan("table99")
    with pytest.raises(ConfigError, match="no plan"):
        plan_text("table99")


def test_a_plan_without_data_cannot_be_measured(tiny_world: TinyWorld) -> None:
    with pytest.raises(ConfigError, match="names no data"):
        load_plan("table1").check_measurable()
    with pytest.raises(ConfigError, match="needs two data sets"):
        load_plan("table7", {"data": {"a": {"path": "x"}}}).check_measurable()


def test_a_cell_that_cannot_be_names_itself(tiny_world: TinyWorld) -> None:
    wrong = plan_of(tiny_world, scenarios={"few": {"kind": "few-shot", "users": 500}})
    with pytest.raises(DataError, match="popularity on a, few, seed 0: 500 users are to train and 24 have"):
        keys(wrong)
    with pytest.raises(ConfigError, match=r"on a, standard, seed 0: .*tune\.epochs"):
        keys(plan_of(tiny_world, changes={"tune.epochs": 3}))


def test_some_rows_of_a_plan() -> None:
    plan = load_plan("table11")
    found = only(plan, ["backbone", "allmrec", "gru4rec/backbone"])
    assert found.asked == (("base", "backbone"), ("base", "allmrec"), ("gru4rec", "backbone"))
    assert [claim.better for claim in found.claims] == ["allmrec"]
    with pytest.raises(ConfigError, match="The plan has no ease; its rows are backbone, allmrec, nextitnet/backbone"):
        only(plan, ["ease"])


def test_every_result_of_the_paper_has_a_plan() -> None:
    wanted = {"table1", "table4", "table5", "table6", "table7", "tables8-9", "table10", "table11", "figures4-5"}
    assert wanted <= set(plan_names())

import numpy as np
import pytest

from pipeline.settings import load_settings, preset_names
from pipeline.settings.space import BY_NAME, HYPERPARAMETERS, build_space, narrowed, plain_configuration


def test_the_paper_has_ten_architecture_and_seven_training_hyperparameters() -> None:
    assert sum(h.part == "architecture" for h in HYPERPARAMETERS) == 10
    assert sum(h.part == "training" for h in HYPERPARAMETERS) == 7


@pytest.mark.parametrize("preset", preset_names())
def test_presets_narrow_the_ranges_and_never_the_dimensions(preset: str) -> None:
    space = build_space(load_settings(preset).space)
    assert set(space) == set(BY_NAME)
    for name, h in BY_NAME.items():
        assert h.lower <= space[name].lower < space[name].upper <= h.upper
        assert space[name].log == h.log


def test_samples_lie_inside_and_become_plain_types() -> None:
    space = build_space({})
    for configuration in space.sample_configuration(50):
        plain = plain_configuration(dict(configuration))
        for name, value in plain.items():
            assert type(value) is (int if BY_NAME[name].integer else float)
            assert BY_NAME[name].lower <= value <= BY_NAME[name].upper


def test_numpy_strings_and_scalars_become_plain() -> None:
    plain = plain_configuration(
        {"a": np.str_("x"), "b": np.float32(0.5), "c": np.int64(3), "d": None, "e": np.bool_(True)}
    )
    assert [type(v) for v in plain.values()] == [str, float, int, type(None), bool]


def test_a_range_outside_the_papers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^space\.momentum: "):
        narrowed({"momentum": (0.5, 1.5)})


def test_a_single_value_fixes_a_hyperparameter_and_an_extension_joins_only_where_it_is_named() -> None:
    space = build_space({"momentum": 0.9, "batch_size": 64, "optimizer": ["sgd", "adamw"]})
    drawn = [plain_configuration(dict(c)) for c in space.sample_configuration(20)]
    assert {c["momentum"] for c in drawn} == {0.9}
    assert {(c["batch_size"], type(c["batch_size"])) for c in drawn} == {(64, int)}
    assert {c["optimizer"] for c in drawn} == {"sgd", "adamw"}
    assert "optimizer" not in build_space({})

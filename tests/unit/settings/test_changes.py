import pytest

from pipeline.settings import changed, validate_settings


def test_values_are_replaced_by_the_names_that_overrides_have_and_the_original_stays_as_it_is() -> None:
    settings = validate_settings({"seed": 3})
    other = changed(settings, {"search.iterations": 8, "slurm.exclude": ("node7",), "seed": 4})
    assert (other.search.iterations, other.slurm.exclude, other.seed) == (8, ("node7",), 4)
    assert settings == validate_settings({"seed": 3})
    assert changed(other, {"search.iterations": 64, "slurm.exclude": (), "seed": 3}) == settings


@pytest.mark.parametrize("name", ["serach.eta", "search.etha"])
def test_a_name_that_no_setting_has_is_refused(name: str) -> None:
    with pytest.raises(AttributeError, match="has no field"):
        changed(validate_settings({}), {name: 1})

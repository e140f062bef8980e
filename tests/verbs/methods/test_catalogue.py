import pytest

from edgekd.errors import InputError
from edgekd.losses import COMMITTEES, FILTERS, LOSSES, POLICIES, WEIGHTS
from edgekd.verbs.methods.catalogue import EVIDENCE, catalogue, find_method


def test_every_registered_method_is_listed_with_what_a_reader_needs() -> None:
    methods = catalogue()
    listed = {(method.role, method.kind) for method in methods}
    registries = {
        "loss": LOSSES,
        "importance": WEIGHTS,
        "layers": POLICIES,
        "committee": COMMITTEES,
        "gradient_filter": FILTERS,
    }
    assert listed == {(role, kind) for role, registry in registries.items() for kind in registry}
    for method in methods:
        assert method.title and method.source and method.applies and method.evidence in EVIDENCE, method.kind
        assert all(setting.description for setting in method.settings), method.kind
        assert method.evidence != "D" or method.variant, f"{method.kind}: say what is edgekd's own"
        assert not method.variant.startswith("edgekd variant"), method.kind  # the page says so
        assert method.title[0].isupper(), method.kind


def test_defaults_are_plain_values() -> None:
    (gkl,) = find_method("gkl")
    defaults = {setting.name: setting.default for setting in gkl.settings}
    assert defaults["beta"] == 16.0 and defaults["importance"] is None
    (curriculum,) = find_method("cka-curriculum")
    assert {setting.name for setting in curriculum.settings if setting.required} == {"student", "blocks"}


def test_a_name_that_is_none_has_neighbours() -> None:
    with pytest.raises(InputError, match="no method 'attention-transfr'; nearest: attention-transfer"):
        find_method("attention-transfr")

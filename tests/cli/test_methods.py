import json
from pathlib import Path

from .conftest import Cli


def test_the_list_and_its_json(cli: Cli) -> None:
    shown = cli("methods")
    assert shown.code == 0 and "gkl" in shown.out and "cka-curriculum" in shown.out
    content = json.loads(cli("methods", "--json").out)
    assert content["schema"] == 1 and len(content["methods"]) > 50
    (kl,) = [method for method in content["methods"] if method["kind"] == "kl"]
    assert (
        kl["capability"] == "C01" and kl["evidence"] == "A" and kl["source"] and kl["settings"][0]["name"] == "weight"
    )
    only = json.loads(cli("methods", "--json", "--capability", "C04").out)["methods"]
    assert only and {method["capability"] for method in only} == {"C04"}


def test_one_method_with_its_settings(cli: Cli) -> None:
    shown = cli("methods", "show", "gkl")
    assert shown.code == 0 and "edgekd variant:" in shown.out and "weight_temperature" in shown.out
    wrong = cli("methods", "show", "gk")
    assert wrong.code == 2 and "nearest: gkl" in wrong.err


def test_the_bench_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    listed = cli("methods", "bench", "--list", "--data", "digits")
    assert listed.code == 0 and "0.3 task + 0.7 kl" in listed.out
    arms = tmp_path / "arms.toml"
    arms.write_text('[[arm]]\nname = "kl"\ndata = "digits"\nlosses = ["kl"]\n')
    ran = cli("methods", "bench", "--settings", str(arms), "--seeds", "2", "--epochs", "1", "--json")
    assert ran.code == 0, ran.err
    (table,) = json.loads(ran.out)["tables"]
    assert [arm["name"] for arm in table["arms"]] == ["no distillation", "kl"] and len(table["arms"][1]["scores"]) == 2

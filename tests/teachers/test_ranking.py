import json
from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.teachers import read_ranking

LINES = [
    {"query": "q1", "positive": "p1", "negatives": ["n1", "n2"], "scores": [3, 1.5, -1], "language": "de"},
    {"query": "q2", "positive": "p1", "negatives": [], "scores": [2.5]},
]


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def letters(texts: list[str]) -> np.ndarray:
    return np.array([[ord(sign) for sign in text] for text in texts])


def test_lines_become_arrays(tmp_path: Path) -> None:
    ranking = read_ranking(write(tmp_path / "r.jsonl", LINES[0], "", LINES[1]))
    assert len(ranking) == 2 and ranking.negatives == (("n1", "n2"), ())
    asked: list[list[str]] = []

    def tokens(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return letters(texts)

    arrays = ranking.arrays(tokens)
    assert asked == [["q1", "q2", "p1", "n1", "n2"]]  # once, each different text once
    np.testing.assert_array_equal(arrays["query"], letters(["q1", "q2"]))
    np.testing.assert_array_equal(arrays["positive"], letters(["p1", "p1"]))
    np.testing.assert_array_equal(arrays["negatives"], [letters(["n1", "n2"]), np.zeros((2, 2))])
    np.testing.assert_array_equal(arrays["scores"], np.array([[3, 1.5, -1], [2.5, 0, 0]], np.float32))
    np.testing.assert_array_equal(arrays["valid"], [[True, True, True], [True, False, False]])
    assert arrays["scores"].dtype == np.float32


def test_queries_without_negatives(tmp_path: Path) -> None:
    arrays = read_ranking(write(tmp_path / "r.jsonl", LINES[1])).arrays(letters)
    assert arrays["negatives"].shape == (1, 0, 2) and arrays["valid"].tolist() == [[True]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "an object with query, positive, negatives, scores"),
        ({"query": "a", "positive": "b", "negatives": []}, "an object with"),
        ({**LINES[1], "query": 3}, "query and positive are texts"),
        ({**LINES[1], "positive": ""}, "query and positive are texts"),
        ({**LINES[1], "negatives": "abc"}, "negatives is a list of texts"),
        ({**LINES[1], "scores": ["1"]}, "scores is a list of finite numbers"),
        ({**LINES[1], "scores": [True]}, "scores is a list of finite numbers"),
        ({**LINES[1], "scores": [10**400]}, "scores is a list of finite numbers"),
        ('{"query": "a", "positive": "b", "negatives": [], "scores": [NaN]}', "scores is a list of finite numbers"),
        ({**LINES[0], "scores": [1, 2]}, "2 scores for a positive and 2 negatives"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(InputError, match=f"line 3: .*{message}"):
        read_ranking(write(tmp_path / "r.jsonl", LINES[0], "", line))


def test_files_and_functions_that_give_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_ranking(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="holds no line"):
        read_ranking(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(InputError, match="for 5 texts"):
        read_ranking(write(tmp_path / "r.jsonl", *LINES)).arrays(lambda texts: letters(texts)[:2])

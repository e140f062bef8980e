"""Queries with a positive, hard negatives and a teacher's scores, as WebFAQ 2.0 publishes them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import InputError

_ENTRIES = ("query", "positive", "negatives", "scores")
_LARGEST = float(np.finfo(np.float32).max)
Tokens = Callable[[list[str]], NDArray[Any]]  # texts: one row a text, (M, L)


@dataclass(frozen=True)
class Ranking:
    """N queries; `scores[n]` are the teacher's of the positive, then of the negatives, 1 + K_n of them."""

    queries: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    def arrays(self, tokens: Tokens) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, with K the greatest number of negatives.

        Args:
            tokens: turns M texts into rows (M, L); it is called once, with every different text.

        Returns:
            `query` (N, L), `positive` (N, L), `negatives` (N, K, L), `scores` (N, 1 + K), float32, and `valid` (N, 1 + K),
            false where a query has fewer negatives; scores and tokens are 0 there.

        Raises:
            InputError: the function does not give one row a text.
        """
        texts = [*self.queries, *self.positives, *(text for negatives in self.negatives for text in negatives)]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        rows = np.asarray(tokens(list(numbers)))
        if rows.ndim < 1 or len(rows) != len(numbers) or rows.dtype.kind not in "fiub":
            raise InputError(
                f"the function for tokens gives {rows.dtype} {rows.shape} for {len(numbers)} texts; "
                "numbers, one row a text of one length, are needed"
            )
        longest = max(map(len, self.negatives), default=0)
        scores = np.zeros((len(self), 1 + longest), np.float32)
        valid = np.zeros(scores.shape, np.bool_)
        negatives = np.zeros((len(self), longest, *rows.shape[1:]), rows.dtype)
        for place, (texts_of_one, own) in enumerate(zip(self.negatives, self.scores, strict=True)):
            scores[place, : len(own)], valid[place, : len(own)] = own, True
            negatives[place, : len(texts_of_one)] = rows[np.array([numbers[text] for text in texts_of_one], np.intp)]
        return {
            "query": rows[[numbers[text] for text in self.queries]],
            "positive": rows[[numbers[text] for text in self.positives]],
            "negatives": negatives,
            "scores": scores,
            "valid": valid,
        }


def read_ranking(path: Path) -> Ranking:
    """Read lines of `{"query": ..., "positive": ..., "negatives": [...], "scores": [...]}`; other entries are left out.

    Raises:
        InputError: the file cannot be read, or a line is wrong; its number and what it should be are named.
    """
    queries, positives, negatives, scores = [], [], [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not JSON: {error}") from error
        wrong = _wrong(entry)
        if wrong:
            raise InputError(f"{path}, line {number}: {wrong}")
        queries.append(entry["query"])
        positives.append(entry["positive"])
        negatives.append(tuple(entry["negatives"]))
        scores.append(tuple(float(score) for score in entry["scores"]))
    if not queries:
        raise InputError(f"{path} holds no line")
    return Ranking(tuple(queries), tuple(positives), tuple(negatives), tuple(scores))


def _wrong(entry: Any) -> str | None:
    """Return what is wrong with a line, or None."""
    if not isinstance(entry, dict) or any(name not in entry for name in _ENTRIES):
        return f"an object with {', '.join(_ENTRIES)} is needed"
    if not all(isinstance(entry[name], str) and entry[name] for name in ("query", "positive")):
        return "query and positive are texts"
    negatives, scores = entry["negatives"], entry["scores"]
    if not _all_of(negatives, str):
        return "negatives is a list of texts"
    if not _all_of(scores, (int, float)) or any(isinstance(one, bool) or not abs(one) <= _LARGEST for one in scores):
        return "scores is a list of finite numbers"
    if len(scores) != 1 + len(negatives):
        return f"{len(scores)} scores for a positive and {len(negatives)} negatives; give one for each, the positive's first"
    return None


def _all_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, kind) for one in value)

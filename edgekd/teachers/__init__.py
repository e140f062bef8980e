"""Teachers: networks, functions, ONNX files and stored outputs, all asked in one way, and the cache of their answers.

`CachedTeacher` puts a `TeacherCache` in front of any teacher, `PrefetchedTeacher` asks it ahead of time; `verify` drops
answers that fail a check. `vote_masks` and `fit_instance_depth` make one label of what several teachers say.
"""

from edgekd.teachers.black_box import FunctionTeacher, OnnxTeacher
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.forms import AnyForm, Bits, Form, Full, Half, Text, TopK
from edgekd.teachers.keys import preprocessing_digest, sample_digests
from edgekd.teachers.prefetch import PrefetchedTeacher, Staleness
from edgekd.teachers.pseudo_labels import fit_instance_depth, vote_masks
from edgekd.teachers.ranking import Ranking, read_ranking
from edgekd.teachers.store import TeacherCache
from edgekd.teachers.stored import StoredTeacher, store_outputs
from edgekd.teachers.teacher import Teacher
from edgekd.teachers.text import text_tensor, texts_of
from edgekd.teachers.verification import finite, passed, verify

__all__ = [
    "AnyForm", "Bits", "CachedTeacher", "Form", "Full", "FunctionTeacher", "Half", "OnnxTeacher", "PrefetchedTeacher",
    "Ranking", "Staleness", "StoredTeacher", "Teacher", "TeacherCache", "Text", "TopK", "finite", "fit_instance_depth",
    "passed", "preprocessing_digest", "read_ranking", "sample_digests", "store_outputs", "text_tensor", "texts_of",
    "verify", "vote_masks",
]  # fmt: skip

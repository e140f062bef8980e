"""Teachers whose answers are kept on disk while a student learns from them."""

from collections.abc import Mapping, Sequence
from typing import Literal

from edgekd.context import Context
from edgekd.data import Part
from edgekd.data.dataset import Augmentation
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.forms import Form, Full, Half, TopK
from edgekd.teachers.teacher import Teacher
from edgekd.training.augment import Variants

FORMS: dict[str, tuple[Form, Form]] = {  # of outputs, of features
    "full": (Full(), Full()),
    "half": (Half(), Half()),
    "top-k": (TopK(), Half()),
}


def cached(
    teachers: Mapping[str, Teacher],
    form: Literal["full", "half", "top-k"],
    part: Part,
    augmentations: Sequence[Augmentation],
    variants: Variants,
    precision: str,
    context: Context,
) -> dict[str, Teacher]:
    """Return the teachers with a cache in front of each, a folder a teacher in the context's `teacher_cache`.

    Raises:
        InputError: a folder holds answers of another teacher, or to other inputs.
        StageError: what is stored is damaged.
    """
    assert context.teacher_cache is not None
    outputs, features = FORMS[form]
    return {
        name: CachedTeacher.open(
            context.teacher_cache / f"{name}-{form}",
            part,
            teacher,
            outputs=outputs,
            features=features,
            precision=precision,
            augmentations=list(augmentations),
            seed=variants.seed if augmentations else None,
        )
        for name, teacher in teachers.items()
    }

"""Teachers make composite targets from single-task references: they translate or rewrite texts."""

from typing import Annotated

from pydantic import Field

from calora.corpus.teachers.command import CommandTeacher
from calora.corpus.teachers.endpoint import EndpointTeacher
from calora.corpus.teachers.rewriter import RewriterTeacher
from calora.corpus.teachers.translator import TranslatorTeacher

Teacher = Annotated[
    CommandTeacher | EndpointTeacher | RewriterTeacher | TranslatorTeacher, Field(discriminator="teacher")
]

__all__ = ["CommandTeacher", "EndpointTeacher", "RewriterTeacher", "Teacher", "TranslatorTeacher"]

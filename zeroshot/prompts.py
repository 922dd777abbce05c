"""Prompt templates: the sentences that a label's name is put into.

A template holds one ``{}``. The embeddings of all of a label's prompts are averaged (prompt ensembling: Radford et
al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from zeroshot.definitions import Reference, find_definition, read_definition, shipped
from zeroshot.errors import TemplateError, quote

SLOT = "{}"
MAX_TEMPLATES = 1_000
MAX_TEMPLATE_CHARS = 1_000


@dataclass(frozen=True)
class TemplateSet:
    """Templates with a name.

    Parameters
    ----------
    name : str
        A shipped set's name, or "custom".
    templates : tuple of str
        Sentences with one ``{}`` each.
    """

    name: str
    templates: tuple[str, ...]

    @property
    def is_bare(self) -> bool:
        """Whether it is the label as it stands."""
        return self.templates == (SLOT,)

    def fill(self, label: str) -> list[str]:
        """Put a label's name into every template.

        Parameters
        ----------
        label : str
            The name; braces in it are kept as they are.

        Returns
        -------
        list of str
            One prompt per template.

        Examples
        --------
        >>> TemplateSet("custom", ("a photo of a {}.",)).fill("cat")
        ['a photo of a cat.']
        """
        return [template.replace(SLOT, label) for template in self.templates]


class TemplateSetFile(BaseModel):
    """The form of a file in ``prompts/templates``; a user's own has the same."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    source: str = Field("", description="Where the templates come from.")
    templates: list[str] | Reference

    @field_validator("templates")
    @classmethod
    def _usable(cls, value: list[str] | Reference) -> list[str] | Reference:
        if isinstance(value, list):
            try:
                check_templates(value)
            except TemplateError as error:
                raise ValueError(str(error)) from error
        return value


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Validate templates."""
    if not templates:
        raise TemplateError(
            "There are no templates.", "Give at least one, such as 'a photo of a {}.'.", field="templates"
        )
    if len(templates) > MAX_TEMPLATES:
        raise TemplateError(
            f"There are {len(templates):,} templates; {MAX_TEMPLATES:,} are allowed.", "Use fewer.", field="templates"
        )
    for template in templates:
        if not isinstance(template, str) or template.count(SLOT) != 1:
            found = template.count(SLOT) if isinstance(template, str) else 0
            raise TemplateError(
                f"The template {quote(template)} has {found or 'no'} '{{}}'.",
                "Write one '{}' where the label's name goes, as in 'a photo of a {}.'.",
                field="templates",
            )
        if len(template) > MAX_TEMPLATE_CHARS:
            raise TemplateError(
                f"The template {quote(template)} has {len(template):,} characters; {MAX_TEMPLATE_CHARS:,} are allowed.",
                "Shorten it.",
                field="templates",
            )
    return tuple(templates)


Templates = str | Path | Sequence[str] | TemplateSet
"""The forms in which templates are taken."""


def load_templates(templates: Templates, *, files: bool = True) -> TemplateSet:
    """Make a template set of whatever names one.

    Parameters
    ----------
    templates : str, Path, sequence of str or TemplateSet
        A shipped name ("simple"), a file's path, one template (a string with ``{}``), or several.
    files : bool
        Whether paths are taken; a service takes names and templates alone.

    Returns
    -------
    TemplateSet
        Validated templates.

    Raises
    ------
    TemplateError
        If a template cannot be used.
    DefinitionError
        If a file is not of the documented form, or the name is unknown.

    Examples
    --------
    >>> load_templates("a photo of a {}.").templates
    ('a photo of a {}.',)
    >>> len(load_templates("simple").templates)
    7
    """
    if isinstance(templates, TemplateSet):
        return templates
    if isinstance(templates, (str, Path)):
        if SLOT in str(templates):
            return TemplateSet("custom", check_templates([str(templates)]))
        if isinstance(templates, str) and (" " in templates.strip() or not templates.strip()):
            check_templates([templates])
        file = read_definition(find_definition("templates", templates, files=files), TemplateSetFile)
        values = file.templates.resolve() if isinstance(file.templates, Reference) else file.templates
        return TemplateSet(file.name, check_templates(values))
    return TemplateSet("custom", check_templates(list(templates)))


def template_set_names() -> list[str]:
    """Names of the shipped template sets."""
    return shipped("templates")

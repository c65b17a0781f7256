"""Arguments of the tasks that are announced and cannot be run yet.

They are here so that a plan which names one of these tasks is read and checked like any other, and the
answer is "not available yet" and not "unknown". Nothing is built from them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fsearch.tasks.task import Arguments


class _Announced(Arguments):
    shown = ("order", "source")

    def word(self, name: str) -> str:
        return super().word(name) if name in type(self).model_fields else ""


class _Questioned(_Announced):
    order: Literal["q_after", "q_first"] = "q_after"
    """Where the question stands: after what it is about, or before it and so far from the answer."""


class _Sourced(_Announced):
    source: str | None = Field(None, min_length=1)
    """Data set to use instead of the task's own."""

    max_prompt_tokens: int = Field(2048, ge=1, le=1_000_000)
    """Longest prompt."""

    max_answer_tokens: int = Field(128, ge=1, le=1_000_000)
    """Longest answer."""


class _Long(_Sourced):
    min_prompt_tokens: int = Field(0, ge=0, le=1_000_000)
    """Shortest prompt: examples below it are left out."""


class _Filled(_Long):
    fill_notes_to_max: bool = False
    """Fill every prompt with notes to exactly max_prompt_tokens."""


class ArcArguments(_Sourced):
    """ARC multiple choice."""

    order: Literal["options_first", "q_first"] = "options_first"
    """Which comes first: the options, or the question, which is then far from the answer."""


class HotpotArguments(_Long, _Questioned):
    """HotpotQA with long context."""


class MbppArguments(_Filled, _Questioned):
    """MBPP: a program for a problem and its tests."""


class ProteinSsArguments(_Filled, _Questioned):
    """Secondary structure of some residues of a protein."""


class ProteinContactArguments(_Filled, _Questioned):
    """Which pairs of residues of a protein are in contact."""


class PunctuationArguments(_Filled):
    """Restore the punctuation and the capital letters of a sentence."""


class SquadArguments(_Filled, _Questioned):
    """SQuAD: a span of a paragraph answers a question."""


class RetrievalArguments(_Questioned):
    """The value of one key among key-value pairs, letter by letter."""


class NameIndexArguments(_Questioned):
    """The name at an index of a list."""


class MiddleMatchArguments(_Questioned):
    """The name between two given neighbours in a list."""


class KvSortArguments(_Announced):
    """The values of key-value pairs in the order of the keys."""


class SftArguments(_Long):
    """Any data set with a prompt template and an answer template."""


ANNOUNCED: dict[str, type[Arguments]] = {
    "arc": ArcArguments,
    "hotpot": HotpotArguments,
    "kv_sort": KvSortArguments,
    "mbpp": MbppArguments,
    "middle_match": MiddleMatchArguments,
    "name_index": NameIndexArguments,
    "protein_contact": ProteinContactArguments,
    "protein_ss": ProteinSsArguments,
    "punctuation": PunctuationArguments,
    "retrieval": RetrievalArguments,
    "sft": SftArguments,
    "squad": SquadArguments,
}

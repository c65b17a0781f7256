"""The errors behind an error."""

from __future__ import annotations

MOST_LINKS = 12


def chain(error: BaseException) -> list[BaseException]:
    """An error, what it was raised from or while handling, and so on, at most MOST_LINKS of them.

    Contexts that were suppressed (`raise ... from None`) count: libraries hide the status of an answer so.
    """
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links and len(links) < MOST_LINKS:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return str(error).strip().split("\n")[0] or type(error).__name__

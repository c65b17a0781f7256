"""Files of a Hugging Face Hub, fetched into its usual cache by huggingface_hub.

A download that is cut goes on where it was; after five tries in a row without a byte it is given up, and
begins anew the next time: the client keeps no half of a file. What is in the cache is used without a network.

The client's own switches hold: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import re
from pathlib import Path

from fsearch.system import hub_client
from fsearch.system.chain import chain, first_line

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?/(?P<file>[^@]+)")


class HubError(Exception):
    """The hub does not give this file; the text says which and why."""


class HubUnreachable(HubError):
    """The hub could not be asked, or broke off: the same may go well later."""


def download(address: str) -> Path:
    """The local copy of hf://owner/repo/file, or of hf://owner/repo@revision/file; main without a revision.

    Raises HubError for an address or a file that there is not, HubUnreachable, and OSError if there is no
    room for the file.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise HubError(f"{address!r} is no address of a file; write hf://owner/repo/file.")
    hub_client.set_up()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub_client.remove_leftovers(f"models--{parts['repo'].replace('/', '--')}")
    try:
        return Path(hf_hub_download(parts["repo"], parts["file"], revision=parts["revision"]))
    except GatedRepoError as error:
        raise HubError(
            f"{address} is gated: accept its terms on the hub, then set HF_TOKEN to a token of yours."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{address}: there is no repository {parts['repo']} at the hub, or it is private and HF_TOKEN is "
            "not set."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{address}: {parts['repo']} has no revision {parts['revision']}.") from error
    except RemoteEntryNotFoundError as error:
        raise HubError(f"{address}: {parts['repo']} has no file {parts['file']}.") from error
    except HFValidationError as error:
        raise HubError(f"{address!r} is no address of a file; write hf://owner/repo/file. {error}") from error
    except LocalEntryNotFoundError as error:
        raise HubUnreachable(
            f"{address} is not in the cache, and the hub could not be asked ({_reason(error)}). Try again "
            "with a network, or give the path of a copy."
        ) from error
    except Exception as error:  # the errors of the client's HTTP library, which changes between its releases
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the network's
            raise
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise HubError(f"{address}: the hub refuses access ({_reason(error)}).") from error
        raise HubUnreachable(
            f"{address} could not be fetched ({_reason(error)}). Try again later."
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what lies at the bottom of an error."""
    return first_line(chain(error)[-1])

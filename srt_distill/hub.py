"""Fetching from the Hugging Face hub without waiting for what will not come.

Shape legend: none.

The hub's library tries again for up to a minute per file where nothing answers. Here one short request is made first;
where that fails, what has been fetched before is used, and what has not is an error that says why and the ways round.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

PATIENCE = 3.0  # seconds for a connection, and again for an answer
LONGEST = 6.0  # seconds in all, for what no such limit reaches: the look-up of a name
NETWORK_MODULES = ("http", "requests", "urllib3")  # begin the names of libraries that raise errors of their own
PROXY_STATUS = 407


@contextmanager
def fetching(what: str, instead: str) -> Iterator[None]:
    """Turn whatever goes wrong while something is fetched from the hub into an error in words.

    Args:
        what: Is fetched, for the message.
        instead: What a user can give instead.

    Raises:
        OSError: If it can neither be fetched nor found among what was fetched before; within seconds.
    """
    offline = constants.HF_HUB_OFFLINE
    trouble = "HF_HUB_OFFLINE is set" if offline else find_trouble()
    constants.HF_HUB_OFFLINE = trouble is not None  # what is in the cache is taken from there, at once
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(NETWORK_MODULES):
            raise
        if trouble is None:
            raise OSError(f"{what} could not be fetched ({error}); check the spelling, or {instead}") from error
        raise OSError(
            f"{what} could not be fetched: {constants.ENDPOINT} is out of reach ({trouble}), and it is not among what "
            f"was fetched before. Ways round: {instead}, fetched on another machine; or, behind a proxy that wants a "
            "password, set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def find_trouble() -> str | None:
    """Find out within seconds why the hub cannot be reached, or None if it can."""
    found = ["no answer within seconds"]

    def ask() -> None:
        try:
            answer = get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            found.append("407 Proxy Authentication Required" if answer.status_code == PROXY_STATUS else "")
        except Exception as error:  # of the network library, which changes
            found.append(str(error) or type(error).__name__)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(LONGEST)
    return found[-1] or None

"""Bearer tokens: who may call."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fettle.graph.errors import InvalidArgument, NotFound, Unauthenticated


class Tokens:
    """Bearer tokens the server accepts. Kept and compared as hashes, so that comparing leaks no timing."""

    def __init__(self, tokens: frozenset[str]) -> None:
        self._digests = {hashlib.sha256(token.encode()).digest() for token in tokens}

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """One token a line; empty lines and lines that begin with # are skipped.

        Raises:
            NotFound: the file cannot be read.
            InvalidArgument: it has no token, or one that no client could send.
        """
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise NotFound(f"token file {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"token file {path} is not text", hint="write one token a line") from error
        tokens = frozenset(text for line in lines if (text := line.strip()) and not text.startswith("#"))
        if not tokens:
            raise InvalidArgument(f"token file {path} has no token", hint="write one token a line")
        if not all(token.isascii() and token.isprintable() for token in tokens):
            raise InvalidArgument(f"token file {path} has a token that cannot be sent", hint="write printable ASCII")
        return cls(tokens)

    def check(self, metadata: Any) -> None:
        """Raises Unauthenticated unless ``authorization: Bearer …`` carries a known token."""
        for name, value in metadata or ():
            if name == "authorization":
                scheme, _, token = str(value).partition(" ")
                if scheme.lower() == "bearer" and hashlib.sha256(token.strip().encode()).digest() in self._digests:
                    return
                raise Unauthenticated("the server does not know this token")
        raise Unauthenticated("the server wants a token", hint="pass --token or set FETTLE_TOKEN")

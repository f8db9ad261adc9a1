"""The one error tree. The service maps each class to a gRPC status, the CLI to an exit code."""

from __future__ import annotations

from collections.abc import Mapping


class FettleError(Exception):
    """Base of every error fettle raises on purpose.

    Args:
        message: what is wrong, in the user's words.
        hint: what to do about it; shown after the message.
        details: machine-readable facts (field, value, position …), sent along over gRPC.
    """

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, str] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidArgument(FettleError):
    """A value that can never be right: malformed text, an option out of range."""


class InvalidWorkload(InvalidArgument):
    """A workload text, format or shape that describes no operator."""


class InvalidGraph(InvalidArgument):
    """A model file that is not a valid operator graph."""


class InvalidDevice(InvalidArgument):
    """A device text that names no device of its backend."""


class Unsupported(FettleError):
    """Well formed, but no backend at hand can do it."""


class NotFound(FettleError):
    """The named job, kernel, artifact, backend or file does not exist."""


class Conflict(FettleError):
    """The request contradicts the present state (a finished job cannot be cancelled)."""


class ResourceExhausted(FettleError):
    """Not enough memory, disk or budget; or over a limit of the server."""


class Unavailable(FettleError):
    """The store, server or device cannot be reached now; trying again may help."""


class StoreUnavailable(Unavailable):
    """The store cannot be reached, or is locked, now; nothing is wrong with the work that was to be stored."""


class StoreFull(ResourceExhausted):
    """No space is left for what should be stored; nothing was left half written."""


class Unauthenticated(FettleError):
    """The call carries no token the server knows."""


class DataLoss(FettleError):
    """Stored bytes are not what was written: a hash mismatch, a truncated blob."""


class Cancelled(FettleError):
    """The job or call was cancelled."""


class BuildFailure(FettleError):
    """A backend could not turn a candidate into an artifact (a typed outcome, see ``backends.api.Outcome``)."""


class Internal(FettleError):
    """A defect of fettle itself."""

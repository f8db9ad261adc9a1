"""The loop of a worker process: one request, one reply, until the host hangs up."""

from __future__ import annotations

import importlib
import os
import socket
import sys

from fettle.backends.api import Backend, Measurement, Outcome, Profile
from fettle.backends.host.building import REFUSALS, refusal
from fettle.backends.host.evaluator import Evaluator
from fettle.backends.host.protocol import (
    BUILD,
    HEADER,
    Build,
    Built,
    Close,
    Done,
    Evaluate,
    Load,
    Open,
    Profiled,
    Reply,
    Request,
    Sample,
    Setup,
    TakeProfile,
    Unload,
    body_length,
    frame,
    parse,
)
from fettle.backends.returned import returned
from fettle.graph.errors import InvalidArgument


def serve(descriptor: int) -> None:
    """Answer requests on a socket; returns when the host closes it."""
    with socket.socket(fileno=descriptor) as channel:
        setup, _ = receive(channel)
        if not isinstance(setup, Setup):
            raise InvalidArgument(f"the first request is {type(setup).__name__}, not Setup")
        try:
            backend = prepare(setup)
        except Exception as error:
            channel.sendall(frame(Done(error=f"{type(error).__name__}: {error}")))
            return
        channel.sendall(frame(Done()))
        evaluator = Evaluator(backend, setup.packed_budget)
        while True:
            try:
                request, descriptors = receive(channel)
            except EOFError:
                return
            try:
                reply = answer(backend, evaluator, setup, request, descriptors)
            finally:
                for received in descriptors:
                    os.close(received)
            channel.sendall(frame(reply))


def receive(channel: socket.socket) -> tuple[Request, list[int]]:
    """The next request, and the file descriptors that came with it.

    Raises:
        EOFError: the host hung up.
    """
    start, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, 1)
    if not start:
        raise EOFError
    header = start + _read(channel, HEADER.size - len(start))
    return parse(_read(channel, body_length(header))), descriptors


def prepare(setup: Setup) -> Backend:
    """Make the backend and let it prepare this process."""
    sys.path += [entry for entry in setup.path if entry not in sys.path]
    processors = os.sched_getaffinity(0)
    backend = make_backend(setup.backend)
    backend.prepare_worker(setup.device)
    if setup.role == BUILD:
        # The backend pinned this process to the device's cores; builders would all compile on the same one.
        os.sched_setaffinity(0, processors)
    return backend


def make_backend(path: str) -> Backend:
    """A backend of the class ``module:Class``.

    Raises:
        InvalidArgument: the class is no backend.
    """
    module, _, name = path.partition(":")
    backend = getattr(importlib.import_module(module), name)()
    if not isinstance(backend, Backend):
        raise InvalidArgument(f"{path} is not a fettle backend")
    return backend


def answer(backend: Backend, evaluator: Evaluator, setup: Setup, request: Request, descriptors: list[int]) -> Reply:
    """Carry out one request."""
    match request:
        case Build():
            return build(backend, request)
        case Evaluate(session, artifact, policy):
            return evaluator.evaluate(session, artifact, policy)
        case Load(session, slot, artifact):
            return evaluator.load(session, slot, artifact)
        case Sample(slot, policy):
            return evaluator.sample(slot, policy)
        case Unload():
            evaluator.unload()
            return Done()
        case Open(session, workload, manifest):
            evaluator.open(session, workload, descriptors[0], manifest)
            return Done()
        case Close(session):
            evaluator.close(session)
            return Done()
        case TakeProfile():
            return take_profile(backend, setup)
        case _:
            raise InvalidArgument(f"a worker does not take {type(request).__name__}")


def build(backend: Backend, request: Build) -> Built:
    """Compile one candidate; every exception becomes a typed failure."""
    try:
        return Built(artifact=backend.build(request.candidate))
    except REFUSALS as error:
        return Built(failure=refusal(error))
    except Exception as error:
        return Built(failure=Measurement.failure(Outcome.COMPILE_ERROR, f"{type(error).__name__}: {error}"))


def take_profile(backend: Backend, setup: Setup) -> Profiled:
    """Measure the roofs."""
    try:
        return Profiled(profile=returned(backend.profile(setup.device), Profile, backend, "profile"))
    except Exception as error:
        return Profiled(error=f"{type(error).__name__}: {error}")


def _read(channel: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        received = channel.recv_into(view)
        if not received:
            raise EOFError
        view = view[received:]
    return bytes(data)

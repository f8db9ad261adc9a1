"""Assembly and life of the gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import attrs
import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fettle.backends.registry import resolve_device
from fettle.graph.errors import FettleError, InvalidArgument, NotFound, Unavailable
from fettle.service.address import Address
from fettle.service.channel import MAX_MESSAGE
from fettle.service.interceptor import CallInterceptor
from fettle.service.jobthread import RunJob
from fettle.service.kernels import KernelServicer
from fettle.service.logs import configure_logging
from fettle.service.replayroot import within_root
from fettle.service.runner import JobManager
from fettle.service.tokens import Tokens
from fettle.service.tuning import Resolve, TuningServicer
from fettle.service.watch import EventHub
from fettle.store.api import Store
from fettle.store.specs import JobSpec
from fettle.v1 import kernels_pb2, kernels_pb2_grpc, tuning_pb2, tuning_pb2_grpc

SERVICES = (
    tuning_pb2.DESCRIPTOR.services_by_name["TuningService"].full_name,
    kernels_pb2.DESCRIPTOR.services_by_name["KernelService"].full_name,
)

log = structlog.get_logger("fettle.service.server")


@attrs.frozen
class ServerOptions:
    """How a server listens.

    Attributes:
        listen: ``HOST:PORT``; port 0 picks a free one.
        tls_cert, tls_key: PEM files, both or neither.
        tokens: file of bearer tokens; None lets everybody in.
        max_concurrent_calls: more are refused with RESOURCE_EXHAUSTED; a watcher counts as one.
        grace: seconds calls in flight get to finish on stop.
        pause_grace: seconds the running job gets to pause on stop (it ends its present trial).
        replay_root: folder under which clients may name recordings; None: nowhere.
    """

    listen: str = "127.0.0.1:50151"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tokens: Path | None = None
    max_concurrent_calls: int = 1024
    grace: float = 5.0
    pause_grace: float = 30.0
    replay_root: Path | None = None


class Server:
    """One server on one store. Use as ``async with``; the store is the caller's to close."""

    def __init__(
        self,
        store: Store,
        run: RunJob,
        *,
        resolve: Resolve = resolve_device,
        options: ServerOptions | None = None,
        poll: float = 1.0,
    ) -> None:
        """Nothing is opened before :meth:`start`.

        Args:
            store: jobs, kernels, artifacts.
            run: runs one job in a thread; see :class:`RunJob`.
            resolve: finds the device of a device text on this machine.
            options: see :class:`ServerOptions`.
            poll: seconds between looks for events that other processes wrote.
        """
        self._options = options or ServerOptions()
        self._store, self._run, self._poll = store, run, poll
        self._resolve = within_root(resolve, self._options.replay_root)
        self._health = health.aio.HealthServicer()
        self._stopped = False
        self.hub: EventHub
        self.manager: JobManager
        self.address: Address

    async def start(self) -> None:
        """Listen, then take up unfinished jobs.

        Raises:
            InvalidArgument: malformed address, half of the TLS files, or files that are no certificate and its key.
            NotFound: a TLS or token file cannot be read.
            Unavailable: the address cannot be listened on.
        """
        options = self._options
        tokens = Tokens.read(options.tokens) if options.tokens is not None else None
        self.hub = EventHub(self._store, self._poll)
        self.manager = JobManager(self._store, self._run, self.hub, self._has_device)
        self._server = grpc.aio.server(
            interceptors=[CallInterceptor(tokens)],
            maximum_concurrent_rpcs=options.max_concurrent_calls,
            options=[
                ("grpc.so_reuseport", 0),  # a port in use must be an error, not a second listener
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.max_send_message_length", MAX_MESSAGE),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        self._register()
        self.address = self._bind(Address.parse(options.listen))
        for name in SERVICES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        await self.manager.start()
        if not self.address.is_loopback and (tokens is None or options.tls_cert is None):
            log.warning("other machines can connect without a token or encryption", address=str(self.address))
        log.info("listening", address=str(self.address))

    async def stop(self) -> None:
        """Stop cleanly; idempotent.

        1. Health says NOT_SERVING, new calls are refused, watchers are told to come back later.
        2. The running job pauses after its present trial; queued jobs stay queued in the store.
        3. Calls in flight finish, or are cut off after the grace.
        """
        if self._stopped:
            return
        self._stopped = True
        await self._health.enter_graceful_shutdown()
        self.hub.close()
        closing = asyncio.create_task(self._server.stop(self._options.grace))
        await self.manager.stop(self._options.pause_grace)
        await closing
        log.info("stopped", address=str(self.address))

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _has_device(self, spec: JobSpec) -> bool:
        try:
            return self._resolve(spec.device_text)[1].key == spec.device.key
        except FettleError:
            return False

    def _register(self) -> None:
        tuning = TuningServicer(self._store, self.manager, self.hub, self._resolve)
        kernels = KernelServicer(self._store, self._resolve)
        tuning_pb2_grpc.add_TuningServiceServicer_to_server(tuning, self._server)  # type: ignore[no-untyped-call]
        kernels_pb2_grpc.add_KernelServiceServicer_to_server(kernels, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def _bind(self, address: Address) -> Address:
        credentials = _credentials(self._options)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), credentials)
        except RuntimeError as error:
            raise Unavailable(
                f"cannot listen on {address}: {address.why_not_bindable() or error}",
                hint=f"stop what uses port {address.port}, or choose another: --listen {address.host}:0",
                details={"address": str(address)},
            ) from error
        return attrs.evolve(address, port=port)


def _credentials(options: ServerOptions) -> grpc.ServerCredentials | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise InvalidArgument("TLS needs both a certificate and a key", hint="give --tls-cert and --tls-key")
    try:
        pair = options.tls_key.read_bytes(), options.tls_cert.read_bytes()
    except OSError as error:
        raise NotFound(f"TLS file {error.filename} cannot be read: {error.strerror}") from error
    try:  # gRPC would say no more than that it cannot bind the port
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, password="")
    except ssl.SSLError as error:
        raise InvalidArgument(
            f"{options.tls_cert} and {options.tls_key} cannot be used for TLS: {error}",
            hint="--tls-cert takes a certificate chain, --tls-key its key without a password, both as PEM",
        ) from error
    return grpc.ssl_server_credentials([pair])


def serve(
    listen: str = "127.0.0.1:50151",
    *,
    store_url: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tokens: Path | None = None,
    replay_root: Path | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly.

    Args:
        listen: ``HOST:PORT``; port 0 picks a free one.
        store_url: see :func:`fettle.store.open.open_store`.
        tls_cert, tls_key: PEM files, both or neither.
        tokens: file of bearer tokens, one a line.
        replay_root: folder under which clients may name recordings.
        on_ready: called with the actual ``HOST:PORT`` once calls are answered.

    Raises:
        see :meth:`Server.start` and :func:`fettle.store.open.open_store`.
    """
    from fettle.search.jobs import run_job
    from fettle.store.open import open_store

    configure_logging()
    options = ServerOptions(listen, tls_cert, tls_key, tokens, replay_root=replay_root)
    with open_store(store_url) as store:
        asyncio.run(serve_until_signal(Server(store, run_job, options=options), on_ready))


async def serve_until_signal(server: Server, on_ready: Callable[[str], None]) -> None:
    """Run a server in this event loop until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with server:
            on_ready(str(server.address))
            await stop.wait()
            log.info("stopping")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)

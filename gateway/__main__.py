"""``idml-gateway``: relay signed transactions of devices to the chain.

Exit codes: 0 done or stopped by SIGTERM, 1 it failed (one line on stderr says why), 2 bad usage or settings,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from contracts.errors import ContractsError
from gateway.errors import ConfigError, GatewayError, Refusal, StoreUnavailable

if TYPE_CHECKING:
    import ssl

    from gateway.compose import Gateway
    from gateway.config import GatewayConfig
    from gateway.metrics import Metrics
    from gateway.worker import Worker

_OVERRIDES = ("chain", "rpc_url", "deployment", "data", "database_url", "log_format", "log_level", "host", "port")

_EXAMPLES = """\
examples:
  idml-gateway serve --chain amoy                   answer on 127.0.0.1:8547, and move what comes in
  idml-gateway serve --config gateway.toml --no-worker
  idml-gateway worker --config gateway.toml         the other half, in a process of its own
  idml-gateway serve --chain anvil --rpc-url http://127.0.0.1:8545 --data run --deployment deployments
  idml-gateway enrol --config gateway.toml --count 10 --valid-for 48 --name lab
  idml-gateway fingerprint --config gateway.toml    the SHA-256 of its certificate, for the devices
  idml-gateway inspect --config gateway.toml 0x1234...   what became of a transaction or an encounter
  idml-gateway reconcile --config gateway.toml      does the chain agree? (exit code 1 if not)

gateway.toml:
  chain = "amoy"                  # anvil, ganache, amoy or an RPC URL
  data = "/var/lib/idml-gateway"
  operator_key = "/etc/idml/operator.key"   # whose account pays for the operations of devices
  [limits]
  max_gas = 1_000_000
  [door]
  access = "enrolled"             # serve only devices that redeemed a token of `enrol`; default: "open"
  [tls]
  on = true                       # with a certificate of its own; devices are told its `fingerprint`

A variable IDML_GATEWAY_<KEY> goes before the file, a flag before both:
IDML_GATEWAY_RPC_URL, IDML_GATEWAY_DATABASE_URL, IDML_GATEWAY_LIMITS__MAX_GAS.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except ConfigError as error:
        _complain(error)
        return 2
    except (GatewayError, ContractsError, OSError) as error:
        _complain(error)
        return 1


def _complain(error: Exception) -> None:
    print(f"idml-gateway: {' '.join(str(error).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idml-gateway",
        description="Relay signed transactions of devices to the chain, and keep their models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    settings.add_argument("--chain", metavar="NAME|URL", help="anvil, ganache, amoy, or an RPC URL")
    settings.add_argument("--rpc-url", metavar="URL", help="the node to use for a chain that is named")
    settings.add_argument("--deployment", metavar="PATH", help="a deployment's file, or a folder of them")
    settings.add_argument("--data", metavar="FOLDER", help="where database and models lie")
    settings.add_argument("--database-url", metavar="URL", help="default: SQLite in the data folder")
    settings.add_argument("--log-format", choices=("text", "json"), help="default: text; json is one object per line")
    settings.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default: info")
    serving = commands.add_parser(
        "serve", parents=[settings], allow_abbrev=False, help="answer devices over HTTP, and run the worker"
    )
    serving.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serving.add_argument("--port", type=int, help="default: 8547; 0 = any free one")
    serving.add_argument("--no-worker", action="store_true", help="only answer; `worker` runs elsewhere")
    serving.set_defaults(run=_serve)
    working = commands.add_parser(
        "worker", parents=[settings], allow_abbrev=False, help="send what is due, follow the chain"
    )
    working.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="tell /metrics of this half there, on 127.0.0.1; 0 = any free one",
    )
    working.set_defaults(run=_work)
    inspecting = commands.add_parser(
        "inspect",
        parents=[settings],
        allow_abbrev=False,
        help="print what the database knows about a transaction, an operation or an encounter",
    )
    inspecting.add_argument("id", type=_digest, metavar="SUBMISSION|OPERATION|ENCOUNTER", help="0x and 64 hex digits")
    inspecting.set_defaults(run=_inspect)
    reconciling = commands.add_parser(
        "reconcile",
        parents=[settings],
        allow_abbrev=False,
        help="compare what the database says with what the chain shows; changes nothing",
    )
    reconciling.set_defaults(run=_reconcile)
    enrolling = commands.add_parser(
        "enrol", parents=[settings], allow_abbrev=False, help="print tokens that enrol one device each"
    )
    enrolling.add_argument("--count", type=_count, default=1, metavar="N", help="how many (default: 1)")
    enrolling.add_argument("--valid-for", type=_hours, default=72.0, metavar="HOURS", help="default: 72")
    enrolling.add_argument("--name", type=_name, help="how the list will call their devices")
    instead = enrolling.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the enrolled devices instead")
    instead.add_argument("--revoke", type=_account, metavar="ACCOUNT", help="serve this device no more")
    enrolling.set_defaults(run=_enrol)
    printing = commands.add_parser(
        "fingerprint",
        parents=[settings],
        allow_abbrev=False,
        help="print the SHA-256 of the certificate, which devices are told; it is made if there is none",
    )
    printing.set_defaults(run=_fingerprint)
    return parser


def _config(arguments: argparse.Namespace) -> GatewayConfig:
    from gateway.config import read_config  # noqa: PLC0415  (imported late: --help stays quick)

    flags = {key: getattr(arguments, key) for key in _OVERRIDES if hasattr(arguments, key)}
    return read_config(arguments.config, flags=flags)


def _open(config: GatewayConfig) -> Gateway:
    from gateway import logs  # noqa: PLC0415
    from gateway.compose import open_gateway  # noqa: PLC0415

    logs.configure(config.log_format, config.log_level, secrets=logs.secrets_of(config))
    for line in config.shown():
        print(line)
    opened = open_gateway(config)
    logs.configure(config.log_format, config.log_level, secrets=logs.secrets_of(config))  # the key may be new
    print(f"chain id {opened.deployment.chain_id}, escrow {opened.deployment.escrow}")
    print(f"operator {opened.operator.address}: pays for the operations of devices", flush=True)
    return opened


def _serve(arguments: argparse.Namespace) -> int:
    from gateway.intake import is_transaction  # noqa: PLC0415
    from gateway.serving import Server  # noqa: PLC0415

    config = _config(arguments)
    with _open(config) as opened, _listening(config.host, config.port) as listener:
        context = _context(config) if config.tls.on else None
        server = Server(
            opened.app,
            listener,
            settings=config.connections,
            max_body_bytes=2 * config.limits.max_model_bytes,  # the app refuses first
            quick=is_transaction,
            context=context,
        )
        scheme = "http" if context is None else "https"
        print(f"serving on {scheme}://{config.host}:{listener.getsockname()[1]}", flush=True)

        def stop() -> None:
            opened.waiting.end()
            server.stop()

        background = None if arguments.no_worker else _Background(opened.worker, config.interval_s, failed=stop)
        with _signals(stop) as seen:
            if background:
                background.start()
            try:
                # A device whose answer got lost sends the same bytes again, and finds its record.
                server.run()
            finally:
                if background:
                    background.end()
    if background and background.fault:
        raise background.fault
    return _stopped(seen)


def _context(config: GatewayConfig) -> ssl.SSLContext:
    from gateway.certificate import fingerprint, server_context  # noqa: PLC0415

    _make_certificate(config)
    context = server_context(config.certificate_file, config.tls.key)
    print(f"certificate SHA-256 {fingerprint(config.certificate_file)}")
    return context


def _make_certificate(config: GatewayConfig) -> None:
    """Make the gateway's own certificate, unless it has one or is given one."""
    from gateway.certificate import make_certificate  # noqa: PLC0415

    if config.tls.certificate is None:
        names = dict.fromkeys([config.host, *config.tls.names, "localhost"])
        make_certificate(config.certificate_file, list(names), now_s=time.time())


def _fingerprint(arguments: argparse.Namespace) -> int:
    from gateway.certificate import fingerprint  # noqa: PLC0415

    config = _config(arguments)
    _make_certificate(config)
    print(fingerprint(config.certificate_file))
    return 0


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise GatewayError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    with listener:
        yield listener


def _work(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    stop = threading.Event()
    with _open(config) as opened, _telling(opened.metrics, arguments.metrics_port), _signals(stop.set) as seen:
        print("working", flush=True)
        opened.worker.run(stop, interval_s=config.interval_s)
    return _stopped(seen)


@contextmanager
def _telling(metrics: Metrics, port: int | None) -> Iterator[None]:
    """What a worker in a process of its own counts, for Prometheus. Raises `ConfigError` if the port is taken."""
    if port is None:
        yield
        return
    from prometheus_client import start_http_server  # noqa: PLC0415

    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--metrics-port {port}: {error}") from error
    print(f"metrics on http://127.0.0.1:{server.server_port}/metrics", flush=True)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Background:
    """The worker in a thread; `failed` is called when it fails for good."""

    def __init__(self, worker: Worker, interval_s: float, *, failed: Callable[[], object]) -> None:
        self.fault: Exception | None = None
        self._worker = worker
        self._interval_s = interval_s
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Let the step that runs be finished."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._worker.run(self._stop, interval_s=self._interval_s)
        except Exception as error:  # the supervisor: whatever ended the worker ends the process
            self.fault = error
            self._failed()


@contextmanager
def _signals(react: Callable[[], object]) -> Iterator[list[int]]:
    """Let the first SIGTERM or SIGINT call `react`; yields what came. Later ones change nothing."""
    seen: list[int] = []

    def arrived(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            react()

    before = {number: signal.signal(number, arrived) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(seen: Sequence[int]) -> int:
    print("stopped", flush=True)
    return 130 if seen[:1] == [signal.SIGINT] else 0


def _inspect(arguments: argparse.Namespace) -> int:
    from gateway.shown import operation_view, submission_view  # noqa: PLC0415
    from gateway.store import Store  # noqa: PLC0415
    from gateway.tables import Database  # noqa: PLC0415
    from gateway.views import encounter_view  # noqa: PLC0415

    config = _config(arguments)
    if config.database_url is None and not (config.data / "gateway.sqlite").is_file():
        raise StoreUnavailable(f"no gateway has worked in {config.data} yet")
    database = Database(config.url)
    store = Store(database)
    try:
        submission = store.submission(arguments.id)
        operation = store.operation(arguments.id)
        rows = store.encounter_events(arguments.id)
        if submission is not None:
            shown = submission_view(submission)
        elif operation is not None:
            shown = operation_view(operation)
        elif rows:
            salts = store.salts(arguments.id)
            shown = encounter_view(arguments.id, store.terms(arguments.id), rows, salts=salts)
            shown["events"] = [row.as_json() for row in rows]
        else:
            _complain(GatewayError(f"{arguments.id} is no transaction, operation or encounter this gateway has seen"))
            return 1
    finally:
        database.close()
    print(json.dumps(shown, indent=2))
    return 0


def _reconcile(arguments: argparse.Namespace) -> int:
    from gateway.reconcile import differences  # noqa: PLC0415

    with _open(_config(arguments)) as opened:
        head = opened.store.head()
        counts = {state: count for state, count in opened.store.counts().items() if count}
        found = list(differences(opened.store, opened.node, operator=opened.operator.address))
    for one in found:
        print(f"{one.about}: {one.words}")
    known = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no transaction"
    print(f"{known}, as of block {head.number if head else 'none'}; {len(found)} differences from the chain")
    return 1 if found else 0


def _enrol(arguments: argparse.Namespace) -> int:
    from gateway.compose import open_database  # noqa: PLC0415
    from gateway.enrolment import Enrolment  # noqa: PLC0415

    database = open_database(_config(arguments))
    enrolment = Enrolment(database)
    try:
        if arguments.list:
            for device in enrolment.devices():
                state = "revoked" if device.revoked else "enrolled"
                at = datetime.fromtimestamp(device.enrolled_at_s, UTC).isoformat(timespec="seconds")
                print(device.account, state, at, device.name or "-")
        elif arguments.revoke is not None:
            if not enrolment.revoke(arguments.revoke):
                _complain(GatewayError(f"{arguments.revoke} is not enrolled"))
                return 1
        else:
            valid_s = arguments.valid_for * 3600
            for token in enrolment.issue(arguments.count, name=arguments.name, valid_s=valid_s, now_s=time.time()):
                print(token)
    finally:
        database.close()
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(_number(text, low=1, high=10_000))


def _account(text: str) -> str:
    from gateway.accounts import checked_address  # noqa: PLC0415

    try:
        return checked_address(text)
    except Refusal as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _hours(text: str) -> float:
    return _number(text, low=1 / 60, high=24 * 366)


def _number(text: str, *, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
    return number


def _name(text: str) -> str:
    if not 0 < len(text) <= 80 or not text.isprintable():
        raise argparse.ArgumentTypeError("a name has 1 to 80 characters that can be printed")
    return text


def _digest(text: str) -> str:
    digits = text.removeprefix("0x").lower()
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("an id is 0x and 64 hex digits")
    return "0x" + digits


if __name__ == "__main__":
    sys.exit(main())

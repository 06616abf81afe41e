"""A chain and a relay for a field: Anvil with the contract, a block each second, and a real gateway before it.

    chain_process.py FOLDER HOST VALIDATORS VOTE_TIME_S ADDRESS...

Prints "ready" once there is a chain, and lives until its standard input is closed; then it prints the books, as JSON.
A line there that says "kill" kills the relay, one that says "start" starts it again.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger import Ledger

from contracts.deploy import Deployment, EscrowSettings, deploy_local, record
from contracts.localchain import LocalChain, open_chain
from contracts.settlement import DEFAULT_PARAMETERS
from gateway.operator import load_operator

_NATIVE_WEI = 10**20
_TOKEN = 10**18


def main(folder: Path, host: str, validators: int, vote_time_s: int, addresses: list[str]) -> None:
    data = folder / "relay"
    data.mkdir()
    operator = load_operator(data / "operator.key")
    with open_chain("anvil") as chain:
        chain.mine(int(time.time()))
        rules = replace(DEFAULT_PARAMETERS, validators=validators, standby_delay_s=20, vote_time_s=vote_time_s)
        settings = EscrowSettings(
            min_stake=5 * _TOKEN, unbonding_period_s=2 * 86_400, max_life_s=86_400, parameters=rules
        )
        deployment = deploy_local(chain, settings)
        place = record(deployment, folder / "deployments")
        chain.fund([operator.address, *addresses], _NATIVE_WEI)
        url = str(chain.web3.provider.endpoint_uri)  # type: ignore[attr-defined]
        config = folder / "relay.toml"
        config.write_text(
            f'chain = "{url}"\ndata = "{data}"\ndeployment = "{place}"\n'
            f'host = "{host}"\nport = 8547\ninterval_s = 0.5\n'
        )
        relay = _Relay(config, folder / "relay.log")
        try:
            print("ready", flush=True)
            _live(chain, relay)
        finally:
            relay.stop()
        chain.mine(chain.time_s + 1)
        print(json.dumps(books(chain, deployment, addresses)), flush=True)


class _Relay:
    """The gateway's process, which may die."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config, self._log = config, log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--config", self._config], stderr=log, stdout=log
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def _live(chain: LocalChain, relay: _Relay) -> None:
    """Make a block each second, and do what the standard input says, until it ends."""
    while True:
        if select.select([sys.stdin], [], [], 1.0)[0]:
            orders = os.read(sys.stdin.fileno(), 1 << 10).decode()
            if not orders:
                return
            for order in orders.split():
                {"kill": relay.kill, "start": relay.start}[order]()
        chain.mine(max(chain.time_s + 1, int(time.time())))


def books(chain: LocalChain, deployment: Deployment, addresses: list[str]) -> dict[str, Any]:
    """What happened on chain, who has what, and what of it is not right to the last unit."""
    ledger = Ledger(chain, deployment, addresses)
    return {
        "happened": ledger.happened,
        "stakes": ledger.stakes(),
        "fined": ledger.fined,
        "wrong": [*ledger.wrong()],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])

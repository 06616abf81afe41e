"""A chain and a relay for a field: Anvil with the contract, a block each second, and a real gateway before it.

    chain_process.py FOLDER HOST VALIDATORS ADDRESS...

Prints "ready" once there is a chain, and lives until its standard input is closed; then it prints the books, as JSON.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts import events
from contracts.deploy import Deployment, EscrowSettings, deploy_local, reader, record
from contracts.localchain import LocalChain, open_chain
from contracts.settlement import DEFAULT_PARAMETERS
from device_agent.loopback.bank import Bank
from gateway.operator import load_operator

_NATIVE_WEI = 10**20
_TOKEN = 10**18


def main(folder: Path, host: str, validators: int, addresses: list[str]) -> None:
    data = folder / "relay"
    data.mkdir()
    operator = load_operator(data / "operator.key")
    with open_chain("anvil") as chain:
        chain.mine(int(time.time()))
        rules = replace(DEFAULT_PARAMETERS, validators=validators, standby_delay_s=20, vote_time_s=60)
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
        with (folder / "relay.log").open("wb") as log:
            relay = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--config", config], stderr=log, stdout=log
            )
        try:
            print("ready", flush=True)
            _make_blocks(chain)
        finally:
            relay.terminate()
            relay.wait(20)
        chain.mine(chain.time_s + 1)
        print(json.dumps(books(chain, deployment, addresses)), flush=True)


def _make_blocks(chain: LocalChain) -> None:
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        chain.mine(max(chain.time_s + 1, int(time.time())))


def books(chain: LocalChain, deployment: Deployment, addresses: list[str]) -> dict[str, Any]:
    """What happened on chain, and whether all tokens are still there, to the last unit."""
    happened: Counter[str] = Counter()
    bought = fined = 0
    for address in (deployment.escrow, deployment.token):
        for log in chain.web3.eth.get_logs({"fromBlock": 0, "address": address}):  # type: ignore[typeddict-item]
            event = events.decode([bytes(topic) for topic in log["topics"]], bytes(log["data"]))
            happened[type(event).__name__] += 1
            bought += event.amount if isinstance(event, events.Bought) else 0
            fined += event.burned if isinstance(event, events.Settled) else 0
    bank = Bank(reader(chain.web3, deployment), addresses)
    kept = bank.books(bought=bought, fined=fined)
    stakes = {who: balance.stake for who, balance in bank.balances().items()}
    return {"happened": happened, "conserved": kept.conserved, "stakes": stakes, "fined": fined}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])

"""What can go wrong in an agent.

AgentError
├── ConfigError          a setting is unknown, of a wrong type or impossible; exit status 2
├── LinkLost             the peer went out of range, or did not answer in time
├── PeerFault            the peer broke the protocol; nothing of what it sent is used
│   └── AccountShared    it has this device's own account
├── BluetoothFault       Bluetooth cannot be used now, with the problem; the radio looks again later
├── GatewayUnreachable   no gateway answered; the outbox keeps the work
├── GatewayRefused       the gateway said no, with a stable code
├── KeystoreFault        the device's keys cannot be read or written, with the problem
├── PassphraseFault      there is no passphrase that can be used
├── StorageFault         a file cannot be written; is the disk full?
├── JournalFault         the journal is not writable or not ours
├── WorkerDied           the training or validation process ended
├── RunExists            something is in the way of a new run
└── RunUnusable          a folder holds no run that can be read
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_SHOWN = 80


class AgentError(Exception):
    """Any fault of the agent."""


class ConfigError(AgentError):
    """A setting that cannot be used; the message names file, key, value and what is allowed."""


class LinkLost(AgentError):
    """The peer cannot be reached any more."""


class PeerFault(AgentError):
    """The peer sent something that the protocol does not allow."""


class AccountShared(PeerFault):
    """Two devices have one account: neither can be met, and what one signs spoils what the other does."""


class BluetoothProblem(StrEnum):
    """What keeps Bluetooth from being used, and what a person can do about it."""

    NO_DBUS = "the system's D-Bus does not answer: install the package dbus, and start it"
    NO_DAEMON = "bluetoothd does not run: install the package bluez, then `systemctl enable --now bluetooth`"
    NO_PERMISSION = "this user may not use Bluetooth: add it to the group bluetooth"
    NO_ADAPTER = "there is no Bluetooth adapter"
    NO_SUCH_ADAPTER = "the adapter in the settings is not there"
    NO_LE = "the adapter cannot scan or advertise with Bluetooth LE"
    POWERED_OFF = "the adapter is off: `bluetoothctl power on`"
    BLOCKED = "the adapter is blocked: `rfkill unblock bluetooth`"
    NO_ANSWER = "bluetoothd does not answer: `systemctl restart bluetooth`"
    SCAN_REFUSED = "bluetoothd refuses to scan"
    CROWDED = "so many addresses advertise that scanning rests for a while"
    NO_SLOT = "other programs use all of the adapter's advertisements"
    ADVERTISEMENT_REFUSED = "bluetoothd refuses the advertisement"
    RECORD_REFUSED = "bluetoothd refuses to tell others where the link answers"
    STUCK = "nothing at all is heard, whatever is tried: where devices are near, `systemctl restart bluetooth`"


class BluetoothFault(AgentError):
    """Bluetooth cannot be used now.

    Attributes:
        problem: what is wrong.
        said: what the system says about it, "" if nothing.
    """

    def __init__(self, problem: BluetoothProblem, said: str = "") -> None:
        super().__init__(f"{problem} ({said})" if said else problem)
        self.problem = problem
        self.said = said


class GatewayUnreachable(AgentError):
    """No answer from the gateway; trying again later makes sense."""


class GatewayRefused(AgentError):
    """The gateway answered with an error.

    Attributes:
        status: HTTP status.
        code: stable code of the gateway, "" if it gave none.
        retry: whether the same request may succeed later.
    """

    def __init__(self, status: int, code: str, message: str, *, retry: bool) -> None:
        super().__init__(f"the gateway refused ({status} {code}): {message}")
        self.status = status
        self.code = code
        self.retry = retry


class JournalFault(AgentError):
    """The journal cannot be opened or written."""


class KeystoreProblem(StrEnum):
    """What is wrong with a keystore."""

    MISSING = "missing"
    EXISTS = "exists"
    NOT_A_FILE = "not a file"
    NOT_OURS = "not ours"
    EXPOSED = "exposed"
    MALFORMED = "malformed"
    VERSION = "version"
    KDF = "key derivation"
    LOCKED = "locked"
    KEYS = "keys"
    STORAGE = "storage"


class KeystoreFault(AgentError):
    """The keystore cannot be used; the message says which file, what is wrong, and what to do.

    Attributes:
        problem: what is wrong. `LOCKED`: the passphrase is wrong, or the file was changed; nobody can tell which.
    """

    def __init__(self, problem: KeystoreProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class PassphraseFault(AgentError):
    """No passphrase was given, or one that cannot be used; the message says what to do."""


class StorageFault(AgentError):
    """A file cannot be written or read; the message says which, and why."""


class WorkerDied(AgentError):
    """A child process ended before it answered."""


class RunExists(AgentError):
    """The output folder holds a run already, or something that is none."""


class RunUnusable(AgentError):
    """A folder holds no run, or one that never wrote its results."""


def first_fault(error: ValidationError, whole: str = "") -> str:
    """Say where the first fault is and what is wrong there, without the input: it may be a stranger's, or a secret.

    `whole` names what was read, for a fault that is in no member of it.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:_SHOWN] for part in first["loc"]) or whole  # a member nobody asked for is a stranger's
    said = first["msg"]
    if first["type"] == "union_tag_invalid":  # says the input all the same
        said = f"{first['ctx']['discriminator']} is none of {first['ctx']['expected_tags']}"
    return f"{where}: {said}" if where else said

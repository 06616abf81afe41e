"""What can go wrong with the contracts, as exceptions whose message says what to do.

::

    ContractsError
    |-- MalformedTerms          terms from outside that no contract would accept (also a ValueError)
    |-- MalformedCalldata       calldata that is not one call of our contracts (also a ValueError)
    |   `-- UnknownCall         its selector belongs to no function of ours
    |-- MalformedLog            a log of a known event with a wrong shape (also a ValueError)
    |-- MalformedDeployment     a deployment record that is not one (also a ValueError)
    |-- ToolMissing             Node, npm or a chain program is not installed
    |   `-- CompilerMissing     no Solidity compiler, or not the pinned version
    |-- CompilationFailed       the compiler refused the sources
    |-- ArtifactsStale          committed artifacts differ from what the sources compile to
    |-- ChainUnreachable        no answer from the chain
    |-- ChainMismatch           the chain is not the one it was taken for (id or genesis)
    |-- DeploymentMissing       nothing deployed on this chain as far as the records say
    |-- DeploymentFailed        a deploying transaction was reverted
    |-- CodeMismatch            the code on the chain differs from our artifacts
    |-- KeyMissing              no usable private key
    `-- ContractRevert          the contract refused; see `contracts.reverts` for one class per custom error
"""


class ContractsError(Exception):
    """Anything this package raises on purpose."""


class MalformedTerms(ContractsError, ValueError):
    """Terms that no contract would accept.

    Attributes:
        field: the name of the offending field ("terms" for the whole).
        allowed: what would have been accepted.
    """

    def __init__(self, field: str, allowed: str, got: object) -> None:
        shown = repr(got)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"terms: {field} must be {allowed}, got {shown}")
        self.field = field
        self.allowed = allowed


class MalformedCalldata(ContractsError, ValueError):
    """Calldata that is not exactly one well-formed call of our contracts."""


class UnknownCall(MalformedCalldata):
    """The selector belongs to no function that a device or operator of ours sends."""

    def __init__(self, selector: bytes) -> None:
        super().__init__(
            f"selector 0x{selector.hex()} is no function of the iDML contracts: "
            "check that sender and receiver run the same version"
        )
        self.selector = selector


class MalformedLog(ContractsError, ValueError):
    """A log carries the topic of a known event but not its shape."""


class MalformedDeployment(ContractsError, ValueError):
    """A deployment record that cannot be read back."""


class ToolMissing(ContractsError):
    """A program we start is not there; the message names the command that installs it."""


class CompilerMissing(ToolMissing):
    """No Solidity compiler of the pinned version."""


class CompilationFailed(ContractsError):
    """The Solidity compiler refused the sources."""


class ArtifactsStale(ContractsError):
    """The committed artifacts are not what the sources compile to."""


class ChainUnreachable(ContractsError):
    """The chain did not answer."""


class ChainMismatch(ContractsError):
    """The chain is not the one it was taken for."""


class DeploymentMissing(ContractsError):
    """No deployment is recorded for this chain."""


class DeploymentFailed(ContractsError):
    """A transaction of the deployment was reverted or never mined."""


class CodeMismatch(ContractsError):
    """The code at an address is not the code we compiled: do not send money there."""


class KeyMissing(ContractsError):
    """No private key, or one that is none."""


class ContractRevert(ContractsError):
    """The contract refused a call. Subclasses live in `contracts.reverts`, one per custom error."""


def decode_revert(data: bytes) -> ContractRevert:
    """Turn the return data of a reverted call into the exception that names it (never raises it).

    Unknown or cut data gives `contracts.reverts.UnknownRevert`, with the bytes in its message.
    """
    from contracts import reverts  # noqa: PLC0415  (the table is built on first use: it imports this module)

    return reverts.decode(data)

"""The device's secrets, in one file that only a passphrase opens.

    {"version": 1, "address": ..., "link_key": ..., "kdf": {"n": ..., "r": ..., "p": ..., "salt": ...}, "nonce": ...,
     "secrets": ...}

`secrets` are the three keys under ChaCha20-Poly1305; the key of that comes from the passphrase by scrypt, and all other
members are its associated data. What is public stands readable, so that it can be shown without the passphrase: who may
write the file can lie about that, until it is opened.

A file is written beside its place, synced, and then named: at its path is a whole keystore or none, whenever the power
fails. None is ever overwritten but by the same keys under another passphrase.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts import curve
from contracts.identity import Identity
from device_agent.errors import KeystoreFault, KeystoreProblem, first_fault

VERSION: Final = 1
MAX_BYTES: Final = 2048
KEY_BYTES: Final = 32

SCRYPT_N: Final = 1 << 15
"""With r = 8: 32 MiB, for each guess of a passphrase too."""
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
MIN_SCRYPT_N: Final = 1 << 10
MAX_SCRYPT_BYTES: Final = 64 << 20
"""What a file may make this device allocate: an eighth of the smallest Pi's memory."""
MAX_SCRYPT_P: Final = 4

_DRAWS: Final = 8
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """What makes a device this device. `repr` shows its account only.

    Attributes:
        account_key: 32 bytes, a private key of secp256k1: its account on chain.
        link_key: 32 bytes, a private key of Ed25519: its end of links.
        radio_key: 32 bytes: the root of the ids on its radios.
    """

    account_key: bytes
    link_key: bytes
    radio_key: bytes

    def __post_init__(self) -> None:
        """Raise ValueError for keys of another length, and for an account's that the curve does not have."""
        if any(len(one) != KEY_BYTES for one in (self.account_key, self.link_key, self.radio_key)):
            raise ValueError(f"each key has {KEY_BYTES} bytes")
        if not _on_curve(self.account_key):
            raise ValueError("the account's key is not one of secp256k1")

    def __repr__(self) -> str:
        return f"Keys({self.public.address})"

    @classmethod
    def fresh(cls, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """Draw new keys from a source of secrets. Raises `KeystoreFault` if that gives no key for an account."""
        for _ in range(_DRAWS):  # of about 2**128 draws, one is not on the curve
            account_key = random_bytes(KEY_BYTES)
            if _on_curve(account_key):
                return cls(account_key=account_key, link_key=random_bytes(KEY_BYTES), radio_key=random_bytes(KEY_BYTES))
        raise KeystoreFault(KeystoreProblem.KEYS, "this machine's random numbers are broken: make no keys on it")

    @property
    def public(self) -> PublicKeys:
        """What everybody may know of them."""
        link_key = Ed25519PrivateKey.from_private_bytes(self.link_key).public_key().public_bytes_raw()
        return PublicKeys(address=Identity(self.account_key).address, link_key=link_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """What everybody may know of a device's keys.

    Attributes:
        address: checksum address of its account.
        link_key: 32 bytes, the public Ed25519 key of its link.
    """

    address: str
    link_key: bytes

    @property
    def link_fingerprint(self) -> str:
        """SHA-256 of the link key's SubjectPublicKeyInfo (RFC 8410), 64 hex digits: what peers pin."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        key = Ed25519PublicKey.from_public_bytes(self.link_key)
        return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def create(path: Path, keys: Keys, passphrase: str, *, n: int = SCRYPT_N) -> None:
    """Write a new keystore, and its folder if need be; durable when it returns.

    Args:
        path: where nothing may be.
        keys: what to keep.
        passphrase: not empty.
        n: scrypt's cost, a power of two.

    Raises `KeystoreFault`.
    """
    refuse_existing(path)
    _write(path, _sealed(path, keys, passphrase, n=n), replace=False)


def open_keystore(path: Path, passphrase: str) -> Keys:
    """Read a keystore. Raises `KeystoreFault`, also for a file that others may read."""
    written = _parsed(path, _read(path))
    try:
        plain = ChaCha20Poly1305(_derived(path, passphrase, written.kdf)).decrypt(
            bytes.fromhex(written.nonce), bytes.fromhex(written.secrets), _header(written)
        )
    except InvalidTag:
        raise KeystoreFault(
            KeystoreProblem.LOCKED,
            f"{path}: the passphrase is wrong, or the file was changed: try again, or restore a backup",
        ) from None
    return _checked(path, plain, written)


def read_public(path: Path) -> PublicKeys:
    """Read what a keystore says of itself; without the passphrase nobody knows if it is true.

    Raises `KeystoreFault` as `open_keystore` does.
    """
    written = _parsed(path, _read(path))
    return PublicKeys(address=written.address, link_key=bytes.fromhex(written.link_key))


def back_up(path: Path, passphrase: str, to: Path, new_passphrase: str, *, n: int = SCRYPT_N) -> None:
    """Write a keystore's keys to another file, under a passphrase of its own. Raises `KeystoreFault`."""
    refuse_existing(to)
    create(to, open_keystore(path, passphrase), new_passphrase, n=n)


def restore(path: Path, backup: Path, passphrase: str, new_passphrase: str, *, n: int = SCRYPT_N) -> None:
    """Make a keystore from a backup.

    Args:
        path: where nothing may be.
        backup: the file that `back_up` wrote.
        passphrase: the backup's.
        new_passphrase: the keystore's.
        n: scrypt's cost, a power of two.

    Raises `KeystoreFault`.
    """
    back_up(backup, passphrase, path, new_passphrase, n=n)


def change_passphrase(path: Path, passphrase: str, new_passphrase: str, *, n: int = SCRYPT_N) -> None:
    """Put the same keys under another passphrase: one of the two opens the file, whenever the power fails.

    Copies of the old file, on a worn SD card too, still open with the old one. Raises `KeystoreFault`.
    """
    keys = open_keystore(path, passphrase)
    _write(path, _sealed(path, keys, new_passphrase, n=n), replace=True)


def refuse_existing(path: Path) -> None:
    """Raise `KeystoreFault` if anything is at a path where a keystore shall be written."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise KeystoreFault(KeystoreProblem.STORAGE, f"{path}: cannot be looked at: {error.strerror}") from error
    raise _exists(path)


# -- the file's text ---------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Versioned(BaseModel):
    model_config = ConfigDict(strict=True)

    version: Annotated[int, Field(ge=0, lt=1 << 31)]


class _Kdf(_Strict):
    n: int
    r: int
    p: int
    salt: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _SALT_BYTES}}}$")]


class _Written(_Strict):
    version: Literal[1]
    address: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    link_key: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * KEY_BYTES}}}$")]
    kdf: _Kdf
    nonce: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _NONCE_BYTES}}}$")]
    secrets: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * (3 * KEY_BYTES + _TAG_BYTES)}}}$")]


def _parsed(path: Path, data: bytes) -> _Written:
    """Read a file's text; only what `_text` would have written counts."""
    if len(data) > MAX_BYTES:
        raise _malformed(path, f"it has more than {MAX_BYTES} bytes")
    try:
        version = _Versioned.model_validate_json(data).version
        if version != VERSION:
            raise KeystoreFault(
                KeystoreProblem.VERSION,
                f"{path}: a keystore of version {version}, not {VERSION}: use the idml-agent that wrote it",
            )
        written = _Written.model_validate_json(data)
    except ValidationError as error:
        raise _malformed(path, first_fault(error)) from None
    if _text(written) != data:
        raise _malformed(path, "it was changed by hand")
    return written


def _text(written: _Written) -> bytes:
    return (json.dumps(written.model_dump(), indent=2) + "\n").encode()


def _header(written: _Written) -> bytes:
    """What is authenticated beside the secrets: all other members."""
    return b"iDML keystore\n" + json.dumps(written.model_dump(exclude={"secrets"})).encode()


# -- sealing and opening -----------------------------------------------------------------------------------------------


def _sealed(path: Path, keys: Keys, passphrase: str, *, n: int) -> bytes:
    """Encrypt keys and return the text of the file that shall be at `path`."""
    public = keys.public
    kdf = _Kdf(n=n, r=SCRYPT_R, p=SCRYPT_P, salt=secrets.token_hex(_SALT_BYTES))
    bare = _Written.model_construct(
        version=VERSION,
        address=public.address,
        link_key=public.link_key.hex(),
        kdf=kdf,
        nonce=secrets.token_hex(_NONCE_BYTES),
    )
    plain = keys.account_key + keys.link_key + keys.radio_key
    cipher = ChaCha20Poly1305(_derived(path, passphrase, kdf))
    sealed = cipher.encrypt(bytes.fromhex(bare.nonce), plain, _header(bare))
    return _text(bare.model_copy(update={"secrets": sealed.hex()}))


def _derived(path: Path, passphrase: str, kdf: _Kdf) -> bytes:
    """Derive the key of a cipher from a passphrase, in its composed form (NFC, as in RFC 8265)."""
    _check_cost(path, kdf)
    if not passphrase:
        raise KeystoreFault(KeystoreProblem.LOCKED, f"{path}: an empty passphrase protects nothing: choose another one")
    scrypt = Scrypt(salt=bytes.fromhex(kdf.salt), length=KEY_BYTES, n=kdf.n, r=kdf.r, p=kdf.p)
    try:
        return scrypt.derive(unicodedata.normalize("NFC", passphrase).encode())
    except MemoryError:
        raise KeystoreFault(
            KeystoreProblem.KDF,
            f"{path}: {_scrypt_bytes(kdf) >> 20} MiB of memory are needed to open it: end other programs and try again",
        ) from None


def _check_cost(path: Path, kdf: _Kdf) -> None:
    """Refuse what would take this device's memory, or protect nothing, before any of it is done."""
    n_fits = kdf.n >= MIN_SCRYPT_N and kdf.n & (kdf.n - 1) == 0
    if n_fits and kdf.r == SCRYPT_R and 1 <= kdf.p <= MAX_SCRYPT_P and _scrypt_bytes(kdf) <= MAX_SCRYPT_BYTES:
        return
    most = MAX_SCRYPT_BYTES // (128 * SCRYPT_R)
    raise KeystoreFault(
        KeystoreProblem.KDF,
        f"{path}: its scrypt parameters are none that are used here (n: a power of two from {MIN_SCRYPT_N} to {most},"
        f" r: {SCRYPT_R}, p: 1 to {MAX_SCRYPT_P}): restore a backup",
    )


def _scrypt_bytes(kdf: _Kdf) -> int:
    return 128 * kdf.r * kdf.n


def _checked(path: Path, plain: bytes, written: _Written) -> Keys:
    """Return the decrypted keys if they are some, and those that the file speaks of."""
    account_key, link_key, radio_key = (plain[at : at + KEY_BYTES] for at in range(0, 3 * KEY_BYTES, KEY_BYTES))
    try:
        keys = Keys(account_key=account_key, link_key=link_key, radio_key=radio_key)
    except ValueError as error:
        raise KeystoreFault(KeystoreProblem.KEYS, f"{path}: {error}: restore a backup") from None
    if keys.public != PublicKeys(address=written.address, link_key=bytes.fromhex(written.link_key)):
        raise KeystoreFault(KeystoreProblem.KEYS, f"{path}: its keys are not those it names: restore a backup")
    return keys


def _on_curve(account_key: bytes) -> bool:
    return 0 < int.from_bytes(account_key, "big") < curve.ORDER


# -- the file ----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    """Read a file that is ours alone, and no more of it than a keystore can have."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_guarded(path, os.fstat(descriptor))
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise KeystoreFault(
            KeystoreProblem.MISSING, f"{path}: there is no keystore: make one with `idml-agent key new`"
        ) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_file(path) from None
        raise KeystoreFault(KeystoreProblem.STORAGE, f"{path}: cannot be read: {error.strerror}") from error


def _check_guarded(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _no_file(path)
    if found.st_uid != os.geteuid():
        raise KeystoreFault(
            KeystoreProblem.NOT_OURS,
            f"{path}: belongs to user {found.st_uid}, not to {os.geteuid()}: run as its owner, or `chown` it",
        )
    if found.st_mode & 0o077:
        raise KeystoreFault(
            KeystoreProblem.EXPOSED,
            f"{path}: others may read or write it (mode {stat.S_IMODE(found.st_mode):04o}): `chmod 600` it, or where"
            " that has no effect copy it to a disk that knows owners; its keys may be known to others",
        )


def _write(path: Path, data: bytes, *, replace: bool) -> None:
    """Put a whole file at a path, durably; one that is there stays unless it is to be replaced."""
    try:
        _make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                part.replace(path)
            else:
                path.hardlink_to(part)  # fails where something is; a rename would not
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise KeystoreFault(KeystoreProblem.STORAGE, f"{path}: cannot be written: {_why(error)}") from error


def _make_folder(folder: Path) -> None:
    """Make a folder for its owner alone, and those it is in, durably."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
        return "this disk knows no hard links: write it to another one and copy it from there"
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and try again"
    return f"{error.strerror}"


def _exists(path: Path) -> KeystoreFault:
    return KeystoreFault(
        KeystoreProblem.EXISTS,
        f"{path}: there is something already, which may hold keys: move it away, or name another",
    )


def _no_file(path: Path) -> KeystoreFault:
    return KeystoreFault(KeystoreProblem.NOT_A_FILE, f"{path}: is not a plain file: name the keystore itself")


def _malformed(path: Path, why: str) -> KeystoreFault:
    return KeystoreFault(KeystoreProblem.MALFORMED, f"{path}: not a keystore, or damaged ({why}): restore a backup")

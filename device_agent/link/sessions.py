"""Who has said who it is: challenges that were given out, and the tokens of those who answered one. Pure; bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.link.limits import Limits
from device_agent.radio import PeerId

_TOKEN_BYTES = 32
_CHALLENGES = 256
_SESSION_S = 3600.0
_PER_PEER = 4
_HOUR_S = 3600.0


@dataclass(slots=True)
class Session:
    """A peer that said who it is. Times are monotonic seconds.

    Attributes:
        peer: its account.
        until_s: when the token ends.
        messages: how many more it may send now.
        counted_at_s: when that was true.
    """

    peer: PeerId
    until_s: float
    messages: float
    counted_at_s: float


class Sessions:
    """Challenges and tokens, none of which can be guessed."""

    def __init__(self, limits: Limits, random_bytes: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._random_bytes = random_bytes
        self._challenges: OrderedDict[str, float] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._served: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()

    def challenge(self, now_s: float) -> str:
        """Return a nonce that may be answered once, for a short while."""
        nonce = self._random_bytes(_TOKEN_BYTES).hex()
        self._challenges[nonce] = now_s + self._limits.unknown_s
        while len(self._challenges) > _CHALLENGES:
            self._challenges.popitem(last=False)
        return nonce

    def answered(self, nonce: str, now_s: float) -> bool:
        """Return whether a nonce was given out and not answered yet; it never is again."""
        return self._challenges.pop(nonce, 0.0) >= now_s

    def welcome(self, peer: PeerId, now_s: float) -> str:
        """Begin a session; return its token. The oldest go if there are too many."""
        own = [token for token, session in self._sessions.items() if session.peer == peer]
        for token in own[: max(0, len(own) - _PER_PEER + 1)]:
            del self._sessions[token]
        token = self._random_bytes(_TOKEN_BYTES).hex()
        self._sessions[token] = Session(
            peer=peer, until_s=now_s + _SESSION_S, messages=self._limits.messages_at_once, counted_at_s=now_s
        )
        while len(self._sessions) > self._limits.sessions:
            self._sessions.popitem(last=False)
        return token

    def get(self, token: str, now_s: float) -> Session | None:
        """Return the session of a token."""
        session = self._sessions.get(token)
        if session is None or session.until_s < now_s:
            self._sessions.pop(token, None)
            return None
        self._sessions.move_to_end(token)
        return session

    def may_speak(self, session: Session, now_s: float) -> bool:
        """Count a message; return whether it is not one too many."""
        gained = (now_s - session.counted_at_s) * self._limits.messages_per_s
        session.messages = min(self._limits.messages_at_once, session.messages + gained)
        session.counted_at_s = now_s
        if session.messages < 1:
            return False
        session.messages -= 1
        return True

    def may_have(self, peer: PeerId, size_bytes: int, now_s: float) -> bool:
        """Count bytes that a peer asks for; return whether they are not too many for one hour."""
        used, at_s = self._served.get(peer, (0.0, now_s))
        used = max(0.0, used - (now_s - at_s) * self._limits.served_bytes_per_hour / _HOUR_S)
        if used + size_bytes > self._limits.served_bytes_per_hour:
            return False
        self._served[peer] = (used + size_bytes, now_s)
        self._served.move_to_end(peer)
        while len(self._served) > self._limits.sessions:
            self._served.popitem(last=False)
        return True

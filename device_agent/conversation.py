"""What peers say to this device, and which snapshots they may have."""

from __future__ import annotations

from collections.abc import Callable

from contracts.terms import Terms
from device_agent import messages
from device_agent.encounter import Effect, Encounter, Happening, Role, Stage
from device_agent.encounters import Encounters
from device_agent.errors import PeerFault
from device_agent.messages import Accept, Agree, Decline, Message, Offer, Propose, Refusal, Reveal
from device_agent.observation import Observe
from device_agent.own_model import OwnModel
from device_agent.radio import PeerId


class Conversation:
    """Turns messages into happenings. Whatever is out of place is told, and changes nothing."""

    def __init__(
        self,
        *,
        encounters: Encounters,
        own: OwnModel,
        consider: Callable[[PeerId, Propose], None],
        declined: Callable[[PeerId, Refusal], None],
        signer: Callable[[Terms, bytes], str | None],
        account: Callable[[PeerId], str | None],
        again: Callable[[Encounter], None],
        observe: Observe,
    ) -> None:
        """Set what messages are about, and who is told.

        Args:
            encounters: what is under way.
            own: the snapshots.
            consider: takes a proposal.
            declined: told who declined one, and why.
            signer: tells which account signed terms, None if that cannot be told.
            account: tells by which account a peer is known, None if by none.
            again: says once more what was said last: a peer that repeats itself has not heard it.
            observe: told what is out of place.
        """
        self._declined = declined
        self._signer = signer
        self._account = account
        self._again = again
        self._encounters = encounters
        self._own = own
        self._consider = consider
        self._observe = observe

    def deliver(self, peer: PeerId, data: bytes) -> None:
        """Take a message from a peer."""
        try:
            self._take(peer, messages.parse(data))
        except PeerFault as fault:
            self._observe("peer fault", peer=peer, reason=str(fault))

    def serve(self, peer: PeerId, digest: bytes) -> bytes | None:
        """Return the snapshot of `digest` if this peer may have it now.

        A Learner lends its previous model once the Neighbor accepted; a Neighbor gives the updated one once both
        salts are out.
        """
        for one in self._encounters.live:
            if one.peer != peer:
                continue
            previous = bytes.fromhex(one.proposal.previous)
            lends = one.role is Role.LEARNER and digest == previous and one.stage is not Stage.PROPOSED
            gives = one.role is Role.NEIGHBOR and digest == one.updated and Effect.REVEAL in one.done
            if lends or gives:
                return self._own.snapshot(digest)
        return None

    def _take(self, peer: PeerId, message: Message) -> None:
        if isinstance(message, Propose):
            self._consider(peer, message)
            return
        one = self._encounters.get(bytes.fromhex(message.key))
        if one is None or one.peer != peer:
            raise PeerFault(f"{message.kind} for an encounter that is not under way with this peer")
        if _was_heard(one, message):
            if isinstance(message, Offer) or one.role is Role.NEIGHBOR:  # a Learner is the one that asks last
                self._again(one)
            return
        if not self._answered(one, message):
            raise PeerFault(f"{message.kind} is out of place for a {one.role} that is {one.stage}")

    def _answered(self, one: Encounter, message: Accept | Agree | Decline | Offer | Reveal) -> bool:
        apply = self._encounters.apply
        learner = one.role is Role.LEARNER
        if isinstance(message, Accept) and learner:
            theirs = bytes.fromhex(message.commitment)
            if self._account(one.peer) not in (None, message.neighbor):
                raise PeerFault("a yes in another account's name")
            terms = one.proposal.terms(neighbor=message.neighbor, commitment=theirs)
            if (message.signature is None) != (terms.nonce == 0):
                raise PeerFault("terms for the batched door come with a signature, others without one")
            signature = None if message.signature is None else bytes.fromhex(message.signature)
            how = Happening.ACCEPTED_ON_CREDIT if one.proposal.credit else Happening.ACCEPTED
            return apply(one.key, how, terms=terms, peer_signature=signature)
        if isinstance(message, Agree) and one.proposal.credit and one.terms is not None:
            signature = bytes.fromhex(message.signature)
            if self._signer(one.terms, signature) != one.terms.learner:
                raise PeerFault("the Learner's signature is not one of these terms")
            return apply(one.key, Happening.AGREED, peer_signature=signature)
        if isinstance(message, Decline) and learner:
            in_place = apply(one.key, Happening.DECLINED, reason=message.reason.value)
            if in_place:
                self._declined(one.peer, message.reason)
            return in_place
        if isinstance(message, Offer) and learner:
            if message.updated == one.proposal.previous:
                raise PeerFault("the updated model is the previous one: no work was done")
            updated = bytes.fromhex(message.updated)
            return apply(one.key, Happening.OFFERED, updated=updated, updated_age=message.age)
        if isinstance(message, Reveal):
            salt = bytes.fromhex(message.salt)
            if not one.fits(salt):
                raise PeerFault("the salt is not the one of the terms")
            return apply(one.key, Happening.REVEALED, peer_salt=salt)
        return False


def _was_heard(one: Encounter, message: Message) -> bool:
    """Whether a message says only what is known, and has had its effect."""
    if isinstance(message, Reveal):
        return one.peer_salt is not None and message.salt == one.peer_salt.hex()
    if not isinstance(message, Offer) or one.role is not Role.LEARNER or one.stage is Stage.STRANDED:
        return False
    return Effect.REVEAL in one.done and one.updated == bytes.fromhex(message.updated)

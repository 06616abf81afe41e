"""Operations as devices sign them."""

from eth_account.signers.local import LocalAccount
from gateway_rig import SALTS, UPDATED

from contracts import calls, signing
from contracts.states import ActionKind, VoteReason
from contracts.terms import Domain, Terms, encounter_id


def opening(agreed: Terms, domain: Domain, learner: LocalAccount, neighbor: LocalAccount) -> calls.Open:
    ours, theirs = (signing.sign(one.key, encounter_id(agreed, domain)) for one in (learner, neighbor))
    return calls.Open(
        terms=agreed, learner_r=ours[:32], learner_vs=ours[32:], neighbor_r=theirs[:32], neighbor_vs=theirs[32:]
    )


def half(agreed: Terms, domain: Domain, who: LocalAccount, updated: bytes = UPDATED) -> calls.ReportSigned:
    """One side's half of a report."""
    signature = signing.sign(who.key, signing.report_digest(encounter_id(agreed, domain), updated, domain))
    halves = [signature if one == who.address else signing.MISSING for one in (agreed.learner, agreed.neighbor)]
    return calls.ReportSigned(
        terms=agreed, updated=updated, learner_salt=SALTS[0], neighbor_salt=SALTS[1], signatures=b"".join(halves)
    )


def ballot(
    agreed: Terms,
    domain: Domain,
    who: LocalAccount,
    *,
    valid: bool = True,
    updated: bytes = UPDATED,
    panel: tuple[int, ...] = (1,),
    position: int = 0,
    reason: VoteReason = VoteReason.ACCURACY,
) -> calls.VoteSigned:
    encounter = encounter_id(agreed, domain)
    signature = signing.sign(who.key, signing.vote_digest(encounter, updated, domain, valid=valid, reason=reason))
    return calls.VoteSigned(
        encounter=encounter,
        updated=updated,
        panel=panel,
        position=position,
        valid=valid,
        reason=reason,
        r=signature[:32],
        vs=signature[32:],
    )


def act(
    who: LocalAccount, domain: Domain, kind: ActionKind, *, amount: int = 0, nonce: int, deadline: int = 2**40 - 1
) -> calls.Act:
    action = calls.Action(account=who.address, kind=kind, amount=amount, nonce=nonce, deadline=deadline)
    signature = signing.sign(who.key, signing.action_digest(action, domain))
    return calls.Act(action=action, r=signature[:32], vs=signature[32:])


def permit(
    who: LocalAccount, token: Domain, spender: str, amount: int, *, nonce: int = 0, deadline: int = 2**40
) -> calls.Permit:
    digest = signing.permit_digest(
        token=token, owner=who.address, spender=spender, amount=amount, nonce=nonce, deadline=deadline
    )
    v, r, s = signing.expanded(signing.sign(who.key, digest))
    return calls.Permit(owner=who.address, amount=amount, deadline=deadline, v=v, r=r, s=s)

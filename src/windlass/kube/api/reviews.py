"""Reviews: questions that are answered and not stored. Who am I, may I, whose token is this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from windlass.http import Response
from windlass.kube.api.authentication.union import Union
from windlass.kube.api.authorization import reviews
from windlass.kube.api.authorization.rbac import RBAC
from windlass.kube.api.handlers import bodies, encoding
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.identity import Authorizer, User
from windlass.kube.api.negotiation import negotiate
from windlass.kube.api.resource import Object

Handler = Callable[[Call], Awaitable[Response]]


def handlers(
    authenticator: Union, authorizer: Authorizer, rbac: RBAC | None, is_complete: Callable[[], bool]
) -> dict[tuple[str, str], Handler]:
    """The handlers by resource; `is_complete`: whether `rbac` alone knows a user's rules."""

    async def check(token: str, audiences: Sequence[str]) -> tuple[User, Sequence[str]] | None:
        found = await authenticator.check_token(token, audiences)
        return None if found is None else (found.user, found.audiences)

    async def token_review(review: Object, call: Call) -> Object:
        return await reviews.token_review(review, check)

    async def subject(review: Object, call: Call) -> Object:
        return await reviews.subject_access_review(review, authorizer)

    async def local(review: Object, call: Call) -> Object:
        return await reviews.local_subject_access_review(review, call.namespace, authorizer)

    async def own_access(review: Object, call: Call) -> Object:
        return await reviews.self_subject_access_review(review, call.actor.user, authorizer)

    async def own_rules(review: Object, call: Call) -> Object:
        return reviews.self_subject_rules_review(review, call.actor.user, rbac, complete=is_complete())

    async def own_identity(review: Object, call: Call) -> Object:
        return reviews.self_subject_review(review, call.actor.user)

    def handler(answer: Callable[[Object, Call], Awaitable[Object]]) -> Handler:
        async def handle(call: Call) -> Response:
            call.form = negotiate(call.request.headers.get("accept", ""))
            call.begin_write("CreateOptions")
            review = await bodies.read_object(call)
            review.setdefault("metadata", {"creationTimestamp": None})
            return encoding.respond(call, 201, encoding.encode(call.form, await answer(review, call)))

        return handle

    return {
        ("tokenreviews", ""): handler(token_review),
        ("subjectaccessreviews", ""): handler(subject),
        ("localsubjectaccessreviews", ""): handler(local),
        ("selfsubjectaccessreviews", ""): handler(own_access),
        ("selfsubjectrulesreviews", ""): handler(own_rules),
        ("selfsubjectreviews", ""): handler(own_identity),
    }

"""`Idempotency-Key`: a POST that makes something, sent again with the same key, gets the first answer, no more.

Only hashes of keys are stored, and answers encrypted under the key: they may contain passwords. A request that failed
leaves its key free. One whose process died may have made something: its key answers 409 until it expires.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from cryptography.fernet import Fernet

from api_cell.edge.route import Request, Response
from cell_service.errors import IdempotencyKeyReused, Invalid, StillBeingDone
from mapping_db import idempotency_keys

KEPT = timedelta(hours=24)
HEADER = "Idempotency-Key"
_LONGEST_ANSWER = 45_000


def idempotently(req: Request, handler: Callable[[Request], Response]) -> Response:
    """The handler's answer, or that of the first request with the same key, project and user.

    Raises IdempotencyKeyReused when that one was another request, StillBeingDone when it has no answer yet.
    """
    key = req.headers.get(HEADER, "")
    if not 0 < len(key) <= 255 or not key.isprintable():
        raise Invalid(reason=f"{HEADER} has between 1 and 255 printable characters.")
    db, now = req.cloud.db, req.cloud.clock.now()
    secret = f"{req.ctx.project_id}\0{req.ctx.user_id}\0{key}".encode()
    digest = sha256(b"digest" + secret).hexdigest()
    cipher = Fernet(base64.urlsafe_b64encode(sha256(b"cipher" + secret).digest()))
    described = json.dumps([req.method, req.path, str(req.version), req.body], sort_keys=True)
    fingerprint = sha256(described.encode()).hexdigest()
    kept = db.run(lambda tx: idempotency_keys.begin(tx, digest, fingerprint, now=now, expires_at=now + KEPT))
    if kept is not None:
        if kept.fingerprint != fingerprint:
            raise IdempotencyKeyReused()
        if kept.status is None or kept.answer is None:
            raise StillBeingDone(retry_after=1)
        body, headers = json.loads(cipher.decrypt(kept.answer.encode()))
        return Response(kept.status, body, headers)
    try:
        answer = handler(req)
    except Exception:
        db.run(lambda tx: idempotency_keys.forget(tx, digest))
        raise
    body = json.loads(answer.body) if isinstance(answer.body, bytes) else answer.body
    raw = json.dumps([body, dict(answer.headers)])
    if len(raw) <= _LONGEST_ANSWER:
        db.run(lambda tx: idempotency_keys.finish(tx, digest, answer.status, cipher.encrypt(raw.encode()).decode()))
    return answer

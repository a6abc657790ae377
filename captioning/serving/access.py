"""Who a request is from: a key of the service, or a JSON Web Token that another server signed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import CaptioningError, MissingExtra
from captioning.serving.keys import PREFIX, ROLES, Caller, KeyStore
from captioning.serving.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

ALGORITHMS = ("HS256", "RS256")
LEAST_SECRET = 32  # bytes of a secret for HS256
NEEDED = ("exp", "sub")  # claims
LONGEST = 8192  # characters of a key or token

NO_KEY = "Send a key: Authorization: Bearer KEY. Whoever runs this service makes one with captioning keys create."


@dataclass(frozen=True)
class Tokens:
    """How tokens are checked: by a shared secret (HS256) or by a public key (RS256)."""

    key: bytes
    algorithm: str = "HS256"
    audience: str = ""

    @classmethod
    def read(cls, path: Path, algorithm: str, audience: str = "") -> "Tokens":
        """The secret or public key of a file."""
        import jwt

        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise CaptioningError(f"{path} cannot be read ({error.strerror}); give the file of --jwt-key.") from None
        if algorithm == "HS256" and len(key) < LEAST_SECRET:
            raise CaptioningError(f"{path} holds {len(key)} bytes; a secret for HS256 has at least {LEAST_SECRET}.")
        try:
            jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        except NotImplementedError:
            raise MissingExtra(f"{algorithm} needs cryptography; install it: pip install cryptography.") from None
        except (jwt.InvalidKeyError, ValueError, TypeError):
            raise CaptioningError(f"{path} is no key for {algorithm}; RS256 takes a public key in PEM.") from None
        return cls(key, algorithm, audience)

    def caller(self, token: str) -> Caller:
        """Who a token is for. Raises a Problem where it is forged, expired or incomplete."""
        import jwt

        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=[self.algorithm],
                audience=self.audience or None,
                options={"require": list(NEEDED)},
            )
        except jwt.ExpiredSignatureError:
            raise stranger("This token has expired; get a new one.") from None
        except jwt.PyJWTError:
            raise stranger("This token is not valid here.") from None
        return _caller(claims)


def _caller(claims: dict[str, Any]) -> Caller:
    subject, role = str(claims["sub"]), claims.get("role", "caption")
    limits = [claims.get(name, 0) for name in ("per_hour", "per_day")]
    is_right = role in ROLES and all(type(each) is int and each >= 0 for each in limits)
    if not (is_right and subject.isprintable() and 0 < len(subject) <= 100):
        raise stranger("This token's sub, role, per_hour or per_day cannot be used.")
    return Caller(f"jwt:{subject}", subject, role, *limits)


class Access:
    """Identifies callers by key or token, and counts what they use."""

    def __init__(self, keys: KeyStore, tokens: Tokens | None = None) -> None:
        self.keys, self._tokens = keys, tokens

    def identify(self, request: "HTTPConnection") -> Caller:
        """Who asks. Raises a Problem for strangers, and for who has used up a quota."""
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        text = text.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "")
        if not text or len(text) > LONGEST:
            raise stranger(NO_KEY)
        if text.startswith(f"{PREFIX}_"):
            caller = self.keys.find(text)
            if caller is None:
                raise stranger("This key is not valid, or was revoked.")
        elif self._tokens:
            caller = self._tokens.caller(text)
        else:
            raise stranger("This is no key of this service.")
        if request.scope["method"] == "POST":
            self.keys.check(caller)
        return caller


def stranger(detail: str) -> Problem:
    """The refusal of somebody who is not known."""
    return Problem(401, "key", detail)

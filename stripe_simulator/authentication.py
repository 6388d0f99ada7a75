"""Which API key a request carries, in any of the three places Stripe looks, and for which account it acts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator.errors import StripeError
from stripe_simulator.forms import Form

PLATFORM_ACCOUNT = "acct_simulator"
"""The account that every accepted key belongs to, unless a request names a connected one."""

_TEST_KEY_PREFIXES = ("sk_test_", "rk_test_")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]+", re.ASCII)
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Stripe"'}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the key came from (`bearer`, `basic`, `parameter` or `none`) and the key itself."""

    kind: str
    key: str

    @property
    def last4(self) -> str:
        return self.key[-4:]


def read_credentials(headers: Mapping[str, str], form: Form) -> Credentials:
    """The header goes before a `key` parameter."""
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return Credentials("bearer", rest)
    if scheme.lower() == "basic" and rest:
        return Credentials("basic", _basic_user(rest))
    in_form = form.get("key")
    if isinstance(in_form, str) and in_form:
        return Credentials("parameter", in_form)
    return Credentials("none", "")


def _basic_user(encoded: str) -> str:
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[0]


def check_key(credentials: Credentials, accepted: frozenset[str]) -> None:
    """Refuse with 401 a request without a key, or with a key this server does not know."""
    key = credentials.key
    if not key:
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at "
            "https://support.stripe.com/.",
            headers=_CHALLENGE,
        )
    known = key in accepted if accepted else key.startswith(_TEST_KEY_PREFIXES)
    if not known:
        masked = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
        raise StripeError(401, f"Invalid API Key provided: {masked}", headers=_CHALLENGE)


def account_of(headers: Mapping[str, str], form: Form) -> str | None:
    """The connected account a request acts on, from a header or a form field; None for the key's own."""
    in_form = form.get("_stripe_account")
    named = headers.get("Stripe-Account") or (in_form if isinstance(in_form, str) else "")
    # A context is a path of accounts; the last one is acted on.
    named = named or headers.get("Stripe-Context", "").rpartition("/")[2]
    if not named:
        return None
    if not _ACCOUNT.fullmatch(named) and named != PLATFORM_ACCOUNT:
        raise StripeError(
            403,
            f"The provided key does not have access to account '{named}' (or that account does not exist). "
            "Application access may have been revoked.",
            code="account_invalid",
        )
    return named

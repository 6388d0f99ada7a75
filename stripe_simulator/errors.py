"""Stripe's refusals: the HTTP status and the body that Stripe sends with each."""

import math
from typing import Any

JsonObject = dict[str, Any]

_SUPPORT = "If you have any questions, we can help at https://support.stripe.com/."


class StripeError(Exception):
    """A refusal in Stripe's shape. `details` are further members of the `error` object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        details: JsonObject | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.details = details or {}
        self.headers = headers or {}

    def body(self, request_id: str) -> JsonObject:
        """The JSON body; members without a value are left out, as Stripe does."""
        error: JsonObject = {**self.details}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.type
        return {"error": error}


def missing_parameter(name: str) -> StripeError:
    return StripeError(400, f"Missing required param: {name}.", code="parameter_missing", param=name)


def unknown_parameters(names: list[str]) -> StripeError:
    plural = "s" if len(names) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(names)}"
    return StripeError(400, message, code="parameter_unknown", param=names[0])


def empty_parameter(name: str) -> StripeError:
    return StripeError(
        400,
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
        f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
        "supply a non-empty value.",
        code="parameter_invalid_empty",
        param=name,
    )


def invalid_integer(name: str, shown: str) -> StripeError:
    return StripeError(400, f"Invalid integer: {shown}", code="parameter_invalid_integer", param=name)


def no_such_object(noun: str, object_id: str, *, param: str, status: int = 404) -> StripeError:
    """404 for an id in the path, 400 where the id came as an ordinary parameter."""
    message = f"No such {noun}: '{object_id}'"
    return StripeError(status, message, code="resource_missing", param=param)


def rate_limited(retry_after_seconds: float) -> StripeError:
    headers = {"Stripe-Rate-Limited-Reason": "global-rate"}
    if retry_after_seconds:
        headers["Retry-After"] = str(math.ceil(retry_after_seconds))
    return StripeError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers=headers,
    )


def unknown_url(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}). The Stripe simulator does not have this endpoint; "
        "Stripe itself may.",
    )


def wrong_content_type() -> StripeError:
    return StripeError(
        400,
        "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
        + _SUPPORT,
    )


def unexpected_state(message: str, intent: JsonObject) -> StripeError:
    """An intent asked to do what its status does not allow; Stripe attaches the intent itself."""
    return StripeError(
        400, message, code="payment_intent_unexpected_state", details={"payment_intent": intent}
    )


def server_error(status: int) -> StripeError:
    """The body Stripe sends with a status that only an outage or a limiter produces."""
    if status == 429:
        message = "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."
        return StripeError(
            429, message, code="rate_limit", headers={"Stripe-Rate-Limited-Reason": "global-rate"}
        )
    if status == 409:
        message = (
            "This object cannot be accessed right now because another API request or Stripe process is "
            "currently accessing it. If you see this error intermittently, retry the request."
        )
        return StripeError(409, message, code="lock_timeout")
    if status >= 500:
        message = "An unknown error occurred. We have been notified. Please try again later."
        return StripeError(status, message, type="api_error")
    return StripeError(status, f"This request was refused with status {status} by an injected fault.")

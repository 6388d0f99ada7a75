"""Adds up prices and quantities: carts, invoices, subscriptions."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from sidecar.refusals import Refused
from sidecar.stripe.asking import Object, currency_of, fetched, item_ids, readable
from sidecar.stripe.given import Given
from sidecar.vendor import Fetch, Money, Price, Unpriced

_QUANTITY_MAX = 99
"""Stripe's own limit on an adjustable quantity that names none."""

_TAXES = ("tax_rates", "default_tax_rates", "tax_percent")
"""The last is of old versions of the API."""


async def price_session(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a Checkout Session: all lines at their highest quantity, and the dearest shipping."""
    _refuse_taxes(given)
    if object_id and "line_items" not in given:
        raise Unpriced("what its customer may still choose is only known when line_items are given again")
    lines = await _sum(given, ("line_items", "optional_items"), fetch)
    shipping = [await _shipping(option, fetch) for option in given.elements("shipping_options")]
    return Price(_added([lines, *_dearest(shipping)]))


async def price_payment_link(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a payment link: all that its payers can pay together."""
    times = given.integer("restrictions[completed_sessions][limit]")
    if times is None:
        raise Unpriced(
            "a payment link can be paid any number of times; give restrictions[completed_sessions][limit]"
        )
    once = await price_session(given, object_id, fetch)
    return Price(Money(once.money.minor_units * times, once.money.currency))


async def price_quote(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price an accepted quote: what is billed at once, and the first period of what is not."""
    quote = await fetched(fetch, f"/v1/quotes/{object_id}")
    return Price(
        readable(
            lambda: Money(
                max(int(quote["amount_total"]), int(quote["computed"]["upfront"]["amount_total"])),
                currency_of(quote),
            )
        )
    )


async def price_invoice_item(given: Given, object_id: str, fetch: Fetch) -> Price | None:
    """Price an item for an invoice: on top of a draft that it names, else by itself."""
    _refuse_taxes(given)
    if object_id:
        return await _changed_invoice_item(given, object_id, fetch)
    line = await _line(given, None, fetch)
    draft = given.object_id("invoice")
    if not draft:
        return Price(line)
    invoice = await fetched(fetch, f"/v1/invoices/{draft}")
    due = readable(lambda: Money(int(invoice["amount_due"]), currency_of(invoice)))
    return Price(_added([due, line]), object_id=draft)


async def _changed_invoice_item(given: Given, object_id: str, fetch: Fetch) -> Price | None:
    """Price a changed item: what the request leaves out stays as it is, and so does the currency."""
    if not given.names - {"metadata", "description", "expand", "discountable", "period"}:
        return None
    item = await fetched(fetch, f"/v1/invoiceitems/{object_id}")
    currency = readable(lambda: currency_of(item))
    if "amount" in given or _has_price(given):
        return Price(await _line(given, currency, fetch, quantity=readable(lambda: _quantity_of(item))))
    if "quantity" not in given and "quantity_decimal" not in given:
        return Price(readable(lambda: item_money(item)))
    unit = readable(lambda: Decimal(str(item["pricing"]["unit_amount_decimal"])))
    return Price(Money(_ceil(unit * _quantity(given, 0)), currency))


def _quantity_of(item: Object) -> int:
    exact = item.get("quantity_decimal")
    return _ceil(Decimal(str(item["quantity"] if exact is None else exact)))


async def price_invoice(given: Given, object_id: str, fetch: Fetch) -> Price | None:
    """Price a new invoice: the items of the customer that wait for it."""
    _refuse_taxes(given)
    if "shipping_cost" in given or "from_invoice" in given:
        raise Unpriced("shipping costs and revisions are only known once the invoice is made")
    if given.get("pending_invoice_items_behavior") != "include":
        return None
    customer = given.object_id("customer")
    if not customer:
        raise given.missing("customer")
    currency = given.currency() if given.get("currency") else None
    money, ids = await _pending_items(customer, currency, fetch)
    return Price(money, absorbed=ids) if money else None


async def price_invoice_lines(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price new lines on a draft invoice: what it had, and all of theirs."""
    invoice = await fetched(fetch, f"/v1/invoices/{object_id}")
    due = readable(lambda: Money(max(0, int(invoice["amount_due"])), currency_of(invoice)))
    lines = [await _line(line, due.currency, fetch) for line in given.elements("lines")]
    return Price(_added([due, *lines]), absorbed=item_ids(invoice))


async def price_subscription(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a subscription: its first period in full, what is billed with it, what waits for an invoice."""
    _refuse_taxes(given)
    if "backdate_start_date" in given:
        raise Unpriced("a start in the past is billed for the time since then")
    billed = await _sum(given, ("items", "add_invoice_items"), fetch)
    customer = given.object_id("customer") or object_id
    if not customer:
        raise given.missing("customer")
    pending, ids = await _pending_items(customer, billed.currency, fetch)
    return Price(_added([billed, pending]) if pending else billed, absorbed=ids)


async def price_subscription_change(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a changed subscription: one period of it as it will be, in full, and what is billed with it."""
    _refuse_taxes(given)
    subscription = await fetched(fetch, f"/v1/subscriptions/{object_id}")
    currency = readable(lambda: currency_of(subscription))
    now = {str(item["id"]): item for item in readable(lambda: list(subscription["items"]["data"]))}
    moneys = [Money(0, currency)]
    for change in given.elements("items"):
        item = now.pop(change.object_id("id"), None) if change.get("id") else None
        if not change.is_true("deleted"):
            moneys.append(await _changed_item(change, item, currency, fetch))
    moneys += readable(lambda: [_item_money(item) for item in now.values()])
    moneys += [await _line(line, currency, fetch) for line in given.elements("add_invoice_items")]
    return Price(_added(moneys))


async def price_subscription_item(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a new or changed item of a subscription: one period of it in full."""
    _refuse_taxes(given)
    item = await fetched(fetch, f"/v1/subscription_items/{object_id}") if object_id else None
    currency = readable(lambda: currency_of(item["price"])) if item else None
    return Price(await _changed_item(given, item, currency, fetch))


async def price_credit_note(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a credit note: the amount given, else the parts given, else all of the invoice."""
    invoice_id = given.object_id("invoice")
    if not invoice_id:
        raise given.missing("invoice")
    invoice = await fetched(fetch, f"/v1/invoices/{invoice_id}")
    named = [given.integer(name) for name in ("refund_amount", "credit_amount", "out_of_band_amount")]
    amounts = [given.integer("amount") or 0, sum(amount or 0 for amount in named)]
    if not any(amounts):
        amounts.append(readable(lambda: int(invoice["total"])))
    return Price(Money(max(amounts), readable(lambda: currency_of(invoice))))


async def price_transfer(given: Given, object_id: str, fetch: Fetch) -> Price:
    """Price a transfer: its amount, else what is left of the charge that it passes on."""
    currency = given.currency()
    amount = given.integer("amount")
    if amount is None:
        charge_id = given.object_id("source_transaction")
        if not charge_id:
            raise given.missing("amount")
        charge = await fetched(fetch, f"/v1/charges/{charge_id}")
        amount = readable(lambda: int(charge["amount"]) - int(charge["amount_refunded"]))
    return Price(Money(amount, currency))


async def _pending_items(
    customer: str, currency: str | None, fetch: Fetch
) -> tuple[Money | None, tuple[str, ...]]:
    """Return the sum and the ids of the items that wait for a customer's next invoice."""
    page = await fetched(fetch, f"/v1/invoiceitems?customer={customer}&pending=true&limit=100")
    if page.get("has_more"):
        raise Unpriced("the customer has more than 100 items that wait for an invoice")
    items = readable(lambda: [(str(item["id"]), item_money(item)) for item in page["data"]])
    # Stripe leaves items in other currencies to other invoices.
    fitting = [(item_id, money) for item_id, money in items if currency in {None, money.currency}]
    if not fitting:
        return None, ()
    return _added([money for _, money in fitting]), tuple(item_id for item_id, _ in fitting)


def item_money(item: Object) -> Money:
    """Return what an invoice item adds; one that gives credit adds nothing."""
    return Money(max(0, int(item["amount"])), currency_of(item))


async def _sum(given: Given, lists: tuple[str, ...], fetch: Fetch) -> Money:
    currency = given.currency() if given.get("currency") else None
    lines = [await _line(line, currency, fetch) for name in lists for line in given.elements(name)]
    if not lines:
        raise given.missing(lists[0])
    return _added(lines)


async def _line(line: Given, currency: str | None, fetch: Fetch, *, quantity: int = 1) -> Money:
    """Price one element of a list: an amount, or a price times the highest quantity.

    ``quantity`` counts where the element has none.
    """
    _refuse_taxes(line)
    amount = line.integer("amount", signed=True)
    if amount is not None:
        named = line.currency() if line.get("currency") or currency is None else currency
        return Money(max(0, amount), named)
    quantity = _quantity(line, quantity)
    if "price_data" in line:
        return Money(
            _ceil(_given_unit(line, "price_data[") * quantity), line.currency("price_data[currency]")
        )
    price_id = next(filter(None, map(line.object_id, ("price", "pricing[price]", "plan"))), "")
    if price_id:
        return await _catalog(price_id, quantity, currency, fetch)
    if "unit_amount_decimal" in line:
        return Money(_ceil(_given_unit(line, "") * quantity), currency or line.currency())
    raise line.missing("price")


def _has_price(given: Given) -> bool:
    return any(name in given for name in ("price_data", "price", "pricing", "unit_amount_decimal"))


def _quantity(line: Given, otherwise: int) -> int:
    quantity = line.integer("quantity", zero=True)
    if line.is_true("adjustable_quantity[enabled]"):
        return max(quantity or 1, line.integer("adjustable_quantity[maximum]") or _QUANTITY_MAX)
    if "quantity_decimal" in line:
        return _ceil(line.decimal("quantity_decimal") or Decimal(0))
    return otherwise if quantity is None else quantity


def _given_unit(line: Given, prefix: str) -> Decimal:
    end = "]" if prefix else ""
    unit = line.integer(f"{prefix}unit_amount{end}", zero=True)
    exact = line.decimal(f"{prefix}unit_amount_decimal{end}")
    if unit is None and exact is None:
        raise line.missing(f"{prefix}unit_amount{end}")
    return max(Decimal(unit or 0), exact or Decimal(0))


async def _catalog(price_id: str, quantity: int, currency: str | None, fetch: Fetch) -> Money:
    price = await fetched(fetch, f"/v1/prices/{price_id}?expand[]=currency_options")
    return readable(lambda: _times(price, quantity, currency))


def _times(price: Object, quantity: int, currency: str | None) -> Money:
    """Multiply a price of the catalog; refuse those whose amount depends on more than the quantity."""
    if price.get("billing_scheme") == "tiered":
        raise Unpriced(f"the price {price['id']} has tiers")
    if (price.get("recurring") or {}).get("usage_type") == "metered":
        raise Unpriced(f"the price {price['id']} bills usage later")
    where: Object = price
    if currency and currency != currency_of(price):
        where = price["currency_options"][currency.lower()]
    custom = where.get("custom_unit_amount")
    if custom:
        if not custom.get("maximum"):
            raise Unpriced(f"whoever pays the price {price['id']} chooses the amount")
        return Money(int(custom["maximum"]), currency or currency_of(price))
    exact = where.get("unit_amount_decimal")
    unit = Decimal(str(exact if exact is not None else where["unit_amount"]))
    transform = price.get("transform_quantity")
    if transform:
        quantity = -(-quantity // int(transform["divide_by"]))
    return Money(_ceil(unit * quantity), currency or currency_of(price))


def _item_money(item: Object) -> Money:
    return _times(item["price"], int(item.get("quantity") or 0), None)


async def _changed_item(change: Given, item: Object | None, currency: str | None, fetch: Fetch) -> Money:
    if item is None or _has_price(change):
        if item is not None and "quantity" not in change:
            raise Unpriced("a new price for an item needs its quantity too")
        return await _line(change, currency, fetch)
    quantity = change.integer("quantity", zero=True)
    _refuse_taxes(change)
    return readable(
        lambda: _times(item["price"], int(item.get("quantity") or 0) if quantity is None else quantity, None)
    )


async def _shipping(option: Given, fetch: Fetch) -> Money:
    rate_id = option.object_id("shipping_rate")
    if rate_id:
        rate = await fetched(fetch, f"/v1/shipping_rates/{rate_id}")
        return readable(lambda: Money(int(rate["fixed_amount"]["amount"]), currency_of(rate["fixed_amount"])))
    name = "shipping_rate_data[fixed_amount]"
    return Money(option.integer(f"{name}[amount]", zero=True) or 0, option.currency(f"{name}[currency]"))


def _dearest(moneys: list[Money]) -> list[Money]:
    return [max(moneys, key=lambda money: money.minor_units)] if moneys else []


def _refuse_taxes(given: Given) -> None:
    if given.is_true("automatic_tax[enabled]") or any(name in given for name in _TAXES):
        raise Unpriced("Stripe adds taxes to the prices")


def _added(moneys: list[Money]) -> Money:
    currencies = {money.currency for money in moneys}
    if len(currencies) > 1:
        raise Refused(
            400,
            "parameter_invalid",
            f"The prices are in several currencies: {', '.join(sorted(currencies))}.",
        )
    return Money(sum(money.minor_units for money in moneys), moneys[0].currency)


def _ceil(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))

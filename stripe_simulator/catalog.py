"""Products and prices: what is sold and for how much. Nothing here moves money."""

from __future__ import annotations

from stripe_simulator.call import Call
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.objects import Price, Product
from stripe_simulator.parameters import Parameters

INTERVALS = ("day", "week", "month", "year")


def create_product(call: Call) -> JsonObject:
    parameters = call.parameters
    name = parameters.required_text("name")
    own_id = parameters.text("id")
    product = _described(Product("", call.now, call.now, name, {}), parameters)
    call.begin()
    if own_id is not None and call.ledger.products.get(own_id) is not None:
        raise StripeError(400, "Product already exists.", code="resource_already_exists", param="id")
    product.id = own_id or call.new_id("prod")
    call.ledger.products.add(product)
    answer = product.json()
    record_event(call, "product.created", answer)
    return answer


def _described(product: Product, parameters: Parameters) -> Product:
    product.active = parameters.boolean("active", product.active)
    product.metadata = parameters.metadata(product.metadata)
    for name in ("description", "url", "default_price"):
        if name in parameters:
            setattr(product, name, parameters.text(name))
    return product


def retrieve_product(call: Call) -> JsonObject:
    return call.ledger.products.require(call.path_ids[0], param="id").json()


def update_product(call: Call) -> JsonObject:
    parameters = call.parameters
    name = parameters.text("name")
    _described(Product("", call.now, call.now, "", {}), parameters)
    call.begin()
    product = call.ledger.products.require(call.path_ids[0], param="id")
    before = product.json()
    _described(product, parameters)
    product.name = name or product.name
    product.updated = call.now
    after = product.json()
    record_event(call, "product.updated", after, before)
    return after


def list_products(call: Call) -> JsonObject:
    ids = call.parameters.texts("ids")
    active = call.parameters.boolean("active", default=True) if "active" in call.parameters else None

    def keep(product: Product) -> bool:
        return (not ids or product.id in ids) and active in (None, product.active)

    return page(call, call.ledger.products, keep)


def _unit_amount(parameters: Parameters) -> int:
    """Minor units; zero is a price, a negative one is not."""
    amount = parameters.integer("unit_amount")
    if amount is None:
        decimal = parameters.text("unit_amount_decimal")
        if decimal is None:
            raise missing_parameter("unit_amount")
        if not (decimal.isascii() and decimal.isdigit()):
            raise StripeError(
                400,
                f"Invalid decimal: {decimal}; this account prices whole minor units only.",
                param="unit_amount_decimal",
            )
        amount = int(decimal)
    if amount < 0:
        raise StripeError(
            400, "Invalid non-negative integer", code="parameter_invalid_integer", param="unit_amount"
        )
    return amount


def _recurring(parameters: Parameters) -> JsonObject | None:
    sent = parameters.mapping("recurring")
    if sent is None:
        return None
    inner = Parameters(sent)
    interval = inner.choice("interval", INTERVALS)
    if interval is None:
        raise missing_parameter("recurring[interval]")
    return {
        "interval": interval,
        "interval_count": inner.positive_integer("interval_count") or 1,
        "meter": None,
        "usage_type": "licensed",
    }


def create_price(call: Call) -> JsonObject:
    parameters = call.parameters
    currency = parameters.currency()
    product_id = parameters.text("product")
    product_data = parameters.mapping("product_data")
    if product_id is None and product_data is None:
        raise missing_parameter("product")
    new_name = Parameters(product_data).required_text("name") if product_data is not None else None
    price = Price(
        id="",
        created=call.now,
        currency=currency,
        product=product_id or "",
        metadata=parameters.metadata({}),
        unit_amount=_unit_amount(parameters),
        recurring=_recurring(parameters),
        active=parameters.boolean("active", default=True),
        nickname=parameters.text("nickname"),
        lookup_key=parameters.text("lookup_key"),
    )
    call.begin()
    if new_name is not None:
        product = call.ledger.products.add(Product(call.new_id("prod"), call.now, call.now, new_name, {}))
        price.product = product.id
    else:
        call.ledger.products.require(price.product, param="product", status=400)
    price.id = call.new_id("price")
    call.ledger.prices.add(price)
    answer = price.json()
    record_event(call, "price.created", answer)
    return answer


def retrieve_price(call: Call) -> JsonObject:
    return call.ledger.prices.require(call.path_ids[0], param="price").json()


def update_price(call: Call) -> JsonObject:
    """A price's amount never changes."""
    parameters = call.parameters
    active = parameters.boolean("active", default=True) if "active" in parameters else None
    nickname = parameters.text("nickname")
    parameters.metadata({})
    call.begin()
    price = call.ledger.prices.require(call.path_ids[0], param="price")
    before = price.json()
    price.active = price.active if active is None else active
    price.nickname = nickname if "nickname" in parameters else price.nickname
    price.metadata = parameters.metadata(price.metadata)
    after = price.json()
    record_event(call, "price.updated", after, before)
    return after


def list_prices(call: Call) -> JsonObject:
    parameters = call.parameters
    product, currency = parameters.text("product"), parameters.text("currency")
    kind = parameters.choice("type", ("one_time", "recurring"))
    lookup_keys = parameters.texts("lookup_keys")
    active = parameters.boolean("active", default=True) if "active" in parameters else None

    def keep(price: Price) -> bool:
        return (
            (product is None or price.product == product)
            and (currency is None or price.currency == currency.lower())
            and (kind is None or (kind == "recurring") == (price.recurring is not None))
            and (not lookup_keys or price.lookup_key in lookup_keys)
            and active in (None, price.active)
        )

    return page(call, call.ledger.prices, keep)

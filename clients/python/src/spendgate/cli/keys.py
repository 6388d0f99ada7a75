"""`spendgate keys`: makes, shows, changes and revokes vault keys."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spendgate import cap_text, derived_keys, parameter_text
from spendgate.cli import output, servers
from spendgate.cli import policy_options as options
from spendgate.cli.connection import Account, DataDir, PolicyAddress, PolicyServer, connect_with
from spendgate.cli.failure import UsageWrong
from spendgate.cli.key_lookup import KeyArgument, find_key, find_parent, vault_keys
from spendgate.cli.output import AsJson
from spendgate.v1 import policy_pb2
from spendgate.v1 import vault_key_service_pb2 as pb

app = typer.Typer(help="Make, show, change and revoke the vault keys of agents.", no_args_is_help=True)


@app.command("create")
def create_key(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to call it: 1 to 64 of A-Z a-z 0-9 . _ -")
    ],
    allow: options.Allow = None,
    cap: options.Caps = None,
    currency: options.Currencies = None,
    parameter: options.Parameters = None,
    budget: options.Budgets = None,
    vendor_account: options.VendorAccounts = None,
    unpriced: options.Unpriced = None,
    shadow: options.Shadow = False,
    effects: options.EffectsOption = None,
    refunds: options.RefundsOption = None,
    repeated_refusals: options.RepeatedRefusals = None,
    expires: options.Expires = None,
    expires_in: options.ExpiresIn = None,
    policy_file: options.PolicyFile = None,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Make a vault key and print it, for the only time.

    What no option allows is refused. Example:

    `spendgate keys create shop --allow 'POST /v1/charges' --allow 'GET /v1/*' --cap 'usd 500.00/day'`
    """
    policy = options.build_policy(
        allow=allow,
        caps=cap,
        currency=currency,
        parameter=parameter,
        budget=budget,
        vendor_account=vendor_account,
        unpriced=unpriced,
        shadow=shadow,
        effects=effects,
        refunds=refunds,
        repeated_refusals=repeated_refusals,
        expires=expires,
        expires_in=expires_in,
        policy_file=policy_file,
    )
    with connect_with(policy_address, data_dir, account) as server:
        made = server.call(
            server.vault_keys.CreateVaultKey,
            pb.CreateVaultKeyRequest(name=name, account=server.account, policy=policy),
        )
    _warn_of_unknown_endpoints(policy)
    if as_json:
        output.print_json(output.as_dict(made))
        return
    _print_key(made.vault_key)
    output.print_line("\nGive this vault key to the agent. It is stored nowhere and never shown again:\n")
    output.print_line(made.secret_vault_key)


@app.command("list")
def list_keys(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """List the vault keys of the account, oldest first, revoked ones too."""
    with connect_with(policy_address, data_dir, account) as server:
        found = list(vault_keys(server))
    if as_json:
        output.print_json({"vaultKeys": [output.as_dict(key) for key in found]})
        return
    output.print_table(
        ("name", "id", "state", "caps", "budgets", "created"),
        (
            (
                key.name,
                key.vault_key_id,
                _state(key),
                "\n".join(cap_text.text(cap) for cap in key.policy.caps),
                ", ".join(key.policy.budgets),
                output.time_text(key.create_time),
            )
            for key in found
        ),
    )


@app.command("show")
def show_key(
    *,
    key: KeyArgument,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Show one vault key and its policy; never its secret."""
    with connect_with(policy_address, data_dir, account) as server:
        _show(find_parent(server, key), as_json=as_json)


@app.command("update")
def update_key(
    *,
    key: KeyArgument,
    allow: options.Allow = None,
    cap: options.Caps = None,
    currency: options.Currencies = None,
    parameter: options.Parameters = None,
    budget: options.Budgets = None,
    vendor_account: options.VendorAccounts = None,
    unpriced: options.Unpriced = None,
    shadow: options.Shadow = False,
    effects: options.EffectsOption = None,
    refunds: options.RefundsOption = None,
    repeated_refusals: options.RepeatedRefusals = None,
    expires: options.Expires = None,
    expires_in: options.ExpiresIn = None,
    policy_file: options.PolicyFile = None,
    if_version: Annotated[
        int,
        typer.Option(
            min=0, metavar="VERSION", help="Change nothing unless the policy has this version; 0: any."
        ),
    ] = 0,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Replace the whole policy of a vault key; the next call obeys the new one.

    What is not given again is no longer allowed. What a cap of the same currency, window and endpoints has
    counted stays counted.
    """
    if derived_keys.derived_key_id(key):
        raise UsageWrong("a derived key has no policy of its own; name the vault key that it is derived from")
    policy = options.build_policy(
        allow=allow,
        caps=cap,
        currency=currency,
        parameter=parameter,
        budget=budget,
        vendor_account=vendor_account,
        unpriced=unpriced,
        shadow=shadow,
        effects=effects,
        refunds=refunds,
        repeated_refusals=repeated_refusals,
        expires=expires,
        expires_in=expires_in,
        policy_file=policy_file,
    )
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.UpdateVaultKeyPolicyRequest(
            vault_key_id=find_key(server, key).vault_key_id, policy=policy, expected_policy_version=if_version
        )
        changed = server.call(server.vault_keys.UpdateVaultKeyPolicy, request).vault_key
    _warn_of_unknown_endpoints(policy)
    _show(changed, as_json=as_json)


@app.command("derive")
def derive_key(
    *,
    run: Annotated[
        str,
        typer.Option("--run", metavar="RUN", help="The only run that it works in.", show_default=False),
    ] = "",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="ENDPOINT",
            help="An endpoint that it keeps, such as `'POST /v1/charges'`. May be repeated.",
            show_default=False,
        ),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            "--cap",
            metavar="CAP",
            help="A limit beside its parent's, over a call, a run or its whole life (total), such as "
            "`'usd 20.00/total'` or `'calls 5/run'`. May be repeated.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str,
        typer.Option("--label", metavar="TEXT", help="Makes else equal keys different.", show_default=False),
    ] = "",
    expires: options.Expires = None,
    expires_in: options.ExpiresIn = None,
) -> None:
    """Derive a key that may do less from the vault key on standard input, and print it.

    Nobody is asked, and nothing is stored: the same options give the same key, but for --expires-in. Example:

    `spendgate keys derive --run run-7 --cap 'usd 20.00/total' --expires-in 1h < agent.key`
    """
    expiry = options.expiry(expires, expires_in)
    try:
        derived = derived_keys.derive_key(
            sys.stdin.readline().strip(),
            run_id=run,
            expires_at=expiry.seconds if expiry else None,
            allow=allow or (),
            caps=[_derived_cap(one) for one in options.parse_caps(cap or ())],
            label=label,
        )
    except derived_keys.DerivationFailed as error:
        raise UsageWrong(str(error)) from None
    output.print_line(derived)


@app.command("revoke")
def revoke_key(
    *,
    key: KeyArgument,
    derived: Annotated[
        str,
        typer.Option(
            "--derived",
            metavar="ID",
            help="End only the derived key with this public id, and those derived from it. Of a chain "
            "such as a/b/c, as the audit trail has it, that is the last.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """End a vault key for good: its very next call is refused.

    A whole vault key, as found in a leak, is taken for its id; the secret is not sent. A whole derived key
    ends alone, and so does one that --derived names; its parent works on.
    """
    with connect_with(policy_address, data_dir, account) as server:
        if only := derived or derived_keys.derived_key_id(key):
            _revoke_derived(server, key, only, as_json=as_json)
            return
        request = pb.RevokeVaultKeyRequest(vault_key_id=find_key(server, key).vault_key_id)
        ended = server.call(server.vault_keys.RevokeVaultKey, request).vault_key
    if as_json:
        output.print_json(output.as_dict(ended))
        return
    when = output.time_text(ended.revoke_time)
    output.print_line(f"The vault key {ended.name} ({ended.vault_key_id}) is revoked since {when}.")


def _revoke_derived(server: PolicyServer, key: str, derived_key_id: str, *, as_json: bool) -> None:
    request = pb.RevokeDerivedKeyRequest(
        vault_key_id=find_key(server, key).vault_key_id, derived_key_id=derived_key_id
    )
    parent = server.call(server.vault_keys.RevokeDerivedKey, request).vault_key
    if as_json:
        output.print_json(output.as_dict(parent))
        return
    ended = derived_key_id.rpartition("/")[2]
    output.print_line(
        f"The key {ended} derived from {parent.name} ({parent.vault_key_id}) is revoked; its parent works on."
    )


def _derived_cap(cap: policy_pb2.Cap) -> derived_keys.DerivedCap:
    if cap.endpoints:
        raise UsageWrong("a derived key's cap counts every call of it; leave 'on …' out")
    window = policy_pb2.Window.Name(cap.window).removeprefix("WINDOW_").lower()
    if cap.WhichOneof("limit") == "calls":
        return derived_keys.DerivedCap(window, cap.calls)
    return derived_keys.DerivedCap(window, cap.amount.minor_units, cap.amount.currency_code)


def _warn_of_unknown_endpoints(policy: policy_pb2.Policy) -> None:
    for remark in servers.endpoint_remarks(policy.allow):
        typer.echo(f"Warning: {remark}", err=True)


def _show(key: pb.VaultKey, *, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(key))
    else:
        _print_key(key)


def _print_key(key: pb.VaultKey) -> None:
    policy = key.policy
    output.print_fields(
        (
            ("name", key.name),
            ("id", key.vault_key_id),
            ("account", key.account),
            ("state", _state(key)),
            ("created", output.time_text(key.create_time)),
            ("revoked", output.time_text(key.revoke_time) if key.HasField("revoke_time") else ""),
            ("expires", output.time_text(policy.expire_time) if policy.HasField("expire_time") else "never"),
            ("policy version", str(key.policy_version)),
            ("allow", "\n".join(policy.allow)),
            ("caps", "\n".join(cap_text.text(cap) for cap in policy.caps) or _no_caps(policy)),
            ("budgets", ", ".join(policy.budgets)),
            ("revoked derived keys", "\n".join(key.revoked_derived_key_ids)),
            ("currencies", ", ".join(policy.currencies)),
            ("unpriced", "\n".join(policy.unpriced)),
            ("vendor accounts", ", ".join(policy.vendor_accounts)),
            ("parameters", "\n".join(parameter_text.text(rule) for rule in policy.parameter_rules)),
            ("mode", output.enum_text(policy_pb2.PolicyMode, policy.mode, "POLICY_MODE_")),
            ("effects", output.enum_text(policy_pb2.EffectNaming, policy.effects, "EFFECT_NAMING_")),
            ("refunds", output.enum_text(policy_pb2.RefundRule, policy.refunds, "REFUND_RULE_")),
            ("repeated refusals", _repeated_refusals(policy)),
        )
    )


def _state(key: pb.VaultKey) -> str:
    return output.enum_text(pb.VaultKeyState, key.state, "VAULT_KEY_STATE_")


def _repeated_refusals(policy: policy_pb2.Policy) -> str:
    most = policy.repeated_refusals_max
    return f"{most} of one call freeze a run" if most else "freeze no run"


def _no_caps(policy: policy_pb2.Policy) -> str:
    if policy.budgets:
        return f"none of its own; it draws from {', '.join(policy.budgets)}"
    return "none: no money may move"

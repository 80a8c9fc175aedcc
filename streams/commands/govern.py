"""``plimsoll govern``: the governor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streams.commands.output import AsJson, print_json


def command(
    policy: Annotated[
        Path | None, typer.Option(help="The policy file (TOML); else the settings' one.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="observe, approve or enforce; else what the policy says.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group; another one begins without incidents.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check policy and keys, say what holds, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Govern: hold incidents, decide by the policy, sign orders, keep the evidence.

    Start two: one governs, the other takes over when it ends. Ends with 0 on SIGTERM, and
    otherwise when it could lose something: start it again.
    """
    from models.permissions import permissions
    from streams.build import governor_app, policy_of
    from streams.delivery.app import Vital, run
    from streams.keys import Signer
    from streams.meters import Meters, bound
    from streams.permitted import names_of, permitted
    from streams.settings import load

    settings = load(governor={"policy_file": policy, "mode": mode, "group": group})
    if dry_run:
        found = policy_of(settings)
        signer = Signer.load(settings.keys_dir, settings.governor.signing_key)
        told = {"mode": found.mode, "rules": len(found.rules), "signs_as": signer.key}
        if as_json:
            print_json(told)
        else:
            typer.echo(
                f"policy and keys hold: mode {found.mode}, {len(found.rules)} rules, "
                f"signing as {signer.key}"
            )
        return
    bound(part="govern")
    meters = Meters()
    vital = Vital(meters.took, meters.recovery_s.observe)
    meters.serve(settings.governor.metrics_port, vital.state)
    with permitted(settings.kafka, permissions("govern", names_of(settings))):
        app = governor_app(settings, meters, time.time_ns)
        run(app, patience_s=settings.governor.stuck_s, vital=vital)

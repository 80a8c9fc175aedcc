"""An incident as others read it: an OCSF detection finding (class 2004, version 1.8.0).

One ``finding_info.uid`` from created over updated to closed. Contract is on ids: names of
tactics and classes change between versions, their numbers do not. What OCSF has no place
for stands under ``unmapped``. docs/alerts.md explains it, docs/schema holds the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models.contract import telemetry_key
from models.incident import Act, Answer, Incident, Stage
from models.records.order import Action
from models.records.verdict import Evidence, Family, Level, Reason

OCSF: Final = "1.8.0"
CLASS: Final = 2004
CREATE, UPDATE, CLOSE = 1, 2, 3
ACTIVITY: Final = {CREATE: "Create", UPDATE: "Update", CLOSE: "Close"}
CHANGE: Final = {CREATE: "created", UPDATE: "updated", CLOSE: "closed"}

SEVERITY: Final = {
    Level.QUIET: (1, "Informational"), Level.WATCH: (2, "Low"), Level.CORRUPTED: (3, "Medium"),
    Level.SUSPECT: (4, "High"), Level.COMPROMISED: (5, "Critical"),
}  # fmt: skip  # a table
STATUS: Final = {
    Stage.OPENED: (1, "New"), Stage.CLOSED: (4, "Resolved"), Stage.DISMISSED: (3, "Suppressed"),
}  # fmt: skip  # a table
IN_PROGRESS: Final = (2, "In Progress")
TECHNIQUES: Final = {
    Family.EGRESS: ("T1041", "Exfiltration Over C2 Channel"),
    Family.INGRESS: ("T1571", "Non-Standard Port"),
    Family.RESOURCE: ("T1496", "Resource Hijacking"),
    Family.PROCESS: ("T1059", "Command and Scripting Interpreter"),
    Family.INTEGRITY: ("T1105", "Ingress Tool Transfer"),
    Family.IDENTITY: ("T1611", "Escape to Host"),
    Family.ACCESS: ("T1609", "Container Administration Command"),
    Family.COVERAGE: ("T1562.001", "Disable or Modify Tools"),
}
"""Each family's likeliest technique in MITRE ATT&CK."""
ATTACK_LEVELS: Final = (Level.SUSPECT, Level.COMPROMISED)
"""Corrupted is a fault, not an attack."""
_MS: Final = 10**6


@dataclass(frozen=True, slots=True)
class Alert:
    """``uid`` names this one message, the same whenever it is sent again; ``body`` is JSON."""

    uid: str
    incident: str
    scope: str
    subject: str
    change: str
    at_ns: int
    body: dict[str, Any]


def alert_of(incident: Incident, now_ns: int) -> Alert:
    """The incident's present state as its next alert; ``incident.alerts`` counts this one."""
    activity = CREATE if incident.alerts <= 1 else UPDATE if incident.open else CLOSE
    uid = f"{incident.uid}/{incident.alerts}"
    return Alert(
        uid, incident.uid, incident.scope, incident.subject, CHANGE[activity], now_ns,
        _body(incident, activity, uid, now_ns),
    )  # fmt: skip  # as the fields lie


def sentence(incident: Incident) -> str:
    """What happened, in one sentence.

    First the subject and its level, then the strongest reason, then what was done.
    """
    why = f": {incident.reasons[0].text}" if incident.reasons else ""
    who = f"{incident.label} ({incident.lineage})"
    return f"{who} is {incident.level}{why}; {standing_of(incident)}"


def standing_of(incident: Incident) -> str:
    """What was done about it, in a few words."""
    if incident.stage is Stage.DISMISSED:
        return f"dismissed by {incident.ended_by}"
    if incident.stage is Stage.CLOSED:
        return "closed"
    acts = [a for a in incident.acts if a.order.action not in (Action.RELEASE, Action.EXTEND)]
    if acts:
        return act_told(acts[-1])
    if incident.said and incident.proposed is not None:
        return incident.said[-1]
    return "nothing was done"


def act_told(act: Act) -> str:
    """One act for a person: ``isolate done and verified in 0.8 s``."""
    if act.waits:
        return f"{act.order.action} ordered"
    if act.answer is not Answer.DONE:
        why = f" ({act.detail})" if act.detail and act.answer is not Answer.RELEASED else ""
        return f"{act.action} {act.answer}{why}"
    proof = {
        True: f" and verified in {act.took_s:.1f} s", False: ", NOT verified", None: "",
    }[act.verified]  # fmt: skip  # a table
    return f"{act.action} done{proof}"


def _body(incident: Incident, activity: int, uid: str, now_ns: int) -> dict[str, Any]:
    severity_id, severity = SEVERITY[incident.level]
    status_id, status = STATUS.get(incident.stage, IN_PROGRESS)
    body = {
        "activity_id": activity, "activity_name": ACTIVITY[activity],
        "category_uid": 2, "category_name": "Findings",
        "class_uid": CLASS, "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Detection Finding: {ACTIVITY[activity]}",
        "severity_id": severity_id, "severity": severity,
        "status_id": status_id, "status": status,
        "time": now_ns // _MS, "start_time": incident.first_ns // _MS,
        "end_time": incident.last_ns // _MS, "count": max(incident.findings, 1),
        "is_alert": incident.level.rank > Level.WATCH.rank,
        "message": sentence(incident),
        "metadata": _metadata(incident, uid),
        "finding_info": _finding_info(incident, now_ns),
        "resources": [_resource(incident)],
        "evidences": _evidences(incident),
        "unmapped": _unmapped(incident),
    }  # fmt: skip  # by subject
    analyses = _analyses(incident)
    if analyses:
        body["anomaly_analyses"] = analyses
    body["device"] = {"uid": incident.host, "type_id": 1, "type": "Server"}
    if not incident.of_host:
        body["container"] = _container(incident)
    return body


def _metadata(incident: Incident, uid: str) -> dict[str, Any]:
    profiles = ["host"] if incident.of_host else ["container", "host"]
    return {
        "version": OCSF, "uid": uid, "profiles": profiles, "tenant_uid": incident.scope,
        "correlation_uid": incident.uid,
        "product": {"name": "Plimsoll", "vendor_name": "Plimsoll"},
    }  # fmt: skip  # by subject


def _finding_info(incident: Incident, now_ns: int) -> dict[str, Any]:
    told = {
        "uid": incident.uid, "title": f"{incident.label} of {incident.lineage} is {incident.level}",
        "desc": "; ".join(reason.text for reason in incident.reasons) or "no reasons were given",
        "analytic": {
            "type_id": 4, "type": "Learning (ML/DL)", "name": "load line",
            "uid": incident.model or "plimsoll",
        },
        "types": [family.value for family in incident.families],
        "created_time": incident.opened_ns // _MS, "modified_time": now_ns // _MS,
        "first_seen_time": incident.first_ns // _MS, "last_seen_time": incident.last_ns // _MS,
        "related_events": [{"uid": uid, "type_uid": CLASS * 100 + 1} for uid in incident.related],
    }  # fmt: skip  # by subject
    if incident.level in ATTACK_LEVELS and incident.families:
        told["attacks"] = [
            {"technique": {"uid": TECHNIQUES[f][0], "name": TECHNIQUES[f][1]}}
            for f in incident.families
        ]
    return {name: value for name, value in told.items() if value != []}


def _container(incident: Incident) -> dict[str, Any]:
    image, _, tag = incident.image.partition("@")
    return {
        "uid": incident.subject, "name": incident.name or incident.subject[:12],
        "image": {"uid": tag or image, "name": image},
    }  # fmt: skip  # short


def _resource(incident: Incident) -> dict[str, Any]:
    return {
        "type": "host" if incident.of_host else "container", "uid": incident.subject,
        "name": incident.label,
        "group": {"name": telemetry_key(incident.scope, incident.lineage, incident.role)},
    }  # fmt: skip  # short


def _evidences(incident: Incident) -> list[dict[str, Any]]:
    """Each reason with its data; a container alone would not satisfy the class."""
    return [{"data": _data(reason), "name": reason.text[:200]} for reason in incident.reasons] or [
        {"data": {"level": incident.level.value}}
    ]


def _data(reason: Reason) -> dict[str, Any]:
    told = {
        "family": reason.family.value, "evidence": reason.evidence.value, "text": reason.text,
        "feature": reason.feature, "value": reason.value, "usual_low": reason.usual_low,
        "usual_high": reason.usual_high, "rarity": reason.rarity, "siblings": reason.siblings,
    }  # fmt: skip  # as the fields lie
    return {name: value for name, value in told.items() if value not in (None, "")}


def _analyses(incident: Incident) -> list[dict[str, Any]]:
    """The magnitudes: what was seen, and the nearest usual interval. Values are text."""
    seen = [
        reason for reason in incident.reasons
        if reason.evidence is Evidence.MAGNITUDE and reason.feature and reason.value is not None
    ]  # fmt: skip  # one condition
    if not seen:
        return []
    usual = [reason for reason in seen if reason.usual_high is not None]
    analysis: dict[str, Any] = {
        "analysis_targets": [{"name": incident.label, "type": _resource(incident)["type"]}],
        "anomalies": [_observed(one, f"{one.value:g}", one.text) for one in seen],
    }
    if usual:
        analysis["baselines"] = [
            _observed(one, f"{one.usual_low or 0:g} to {one.usual_high:g}", one.siblings)
            for one in usual
        ]
    return [analysis]


def _observed(reason: Reason, value: str, pattern: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "observation_parameter": reason.feature, "observations": [{"value": value}],
    }  # fmt: skip  # short
    return told | ({"observed_pattern": pattern} if pattern else {})


def _unmapped(incident: Incident) -> dict[str, Any]:
    return {
        "scope": incident.scope, "group": incident.group, "level": incident.level.value,
        "level_now": incident.now.value, "stage": incident.stage.value,
        "score": incident.score, "replicas": incident.replicas,
        "families": [family.value for family in incident.families],
        "proposed": incident.proposed.value if incident.proposed else None,
        "said": list(incident.said), "confirmed_by": incident.confirmed_by,
        "ended_by": incident.ended_by, "actions": [_action(act) for act in incident.acts],
        "evidence": {"exhibits": incident.exhibits, "head": incident.head},
    }  # fmt: skip  # by subject


def _action(act: Act) -> dict[str, Any]:
    return {
        "order": act.order.uid, "asked": act.order.action.value, "done": act.action.value,
        "answer": act.answer.value, "verified": act.verified, "took_s": round(act.took_s, 3),
        "issued_time": act.order.issued_ns // _MS, "answered_time": act.answered_ns // _MS,
        "until_time": act.until_ns // _MS, "because": act.order.because, "detail": act.detail,
        "undoes": act.order.undoes, "replacement": act.replacement,
        "checks": [
            {"name": check.name, "passed": check.passed, "detail": check.detail}
            for check in act.checks
        ],
    }  # fmt: skip  # by subject

"""AuthenticationConfiguration: issuers of tokens and what anonymous requests may ask, from a file.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from windlass.kube.api import configfile
from windlass.kube.api.authentication.oidc import ALGORITHMS, ClaimRule, Mapped, Settings
from windlass.kube.api.authentication.union import AnonymousRule
from windlass.kube.api.configfile import BadConfiguration, Node
from windlass.kube.cel import CompileError, Environment, Program
from windlass.kube.cel.types import BOOL, DYN, STRING, Type, list_of, map_of, object_of

KIND = "AuthenticationConfiguration"
VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1")
_MOST_ISSUERS = 64
_MATCH_ANY = "MatchAny"
_EXTRA_KEY = re.compile(r"[a-z0-9.-]+/[a-z0-9!#$&'*+.^_`|~%-]+")
_RESERVED = ("kubernetes.io", "k8s.io")
_USER = object_of(
    "kubernetes.UserInfo",
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
)
_OF_CLAIMS = Environment({"claims": map_of(STRING, DYN)})
_OF_USER = Environment({"user": _USER})


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says; `anonymous` is None where it says nothing of it."""

    issuers: tuple[Settings, ...] = ()
    anonymous: AnonymousRule | None = None


def load(path: Path) -> Configuration:
    """Read a file. Raises BadConfiguration."""
    root = configfile.load(path, KIND, VERSIONS)
    issuers = tuple(_issuer(each) for each in root.children("jwt"))
    if len(issuers) > _MOST_ISSUERS:
        raise root.error("jwt", f"must have at most {_MOST_ISSUERS} items")
    for name in ("url", "discovery_url"):
        found = [value for each in issuers if (value := getattr(each, name))]
        for index, value in enumerate(found):
            if value in found[:index]:
                raise root.error("jwt", f'Duplicate value: "{value}"')
    anonymous = _anonymous(root.child("anonymous")) if root.has("anonymous") else None
    root.done()
    return Configuration(issuers, anonymous)


def of_flags(
    url: str,
    client: str,
    *,
    username_claim: str,
    username_prefix: str,
    groups_claim: str,
    groups_prefix: str,
    required: Mapping[str, str],
    algorithms: tuple[str, ...],
    authority: str,
) -> Settings:
    """The one issuer of the `--oidc-…` flags.

    Args:
        username_prefix: "" for the default (the issuer and "#", none for emails), "-" for none.
        authority: PEM certificates, "" for the system's.

    Raises:
        BadConfiguration
    """
    if not url.startswith("https://"):
        raise BadConfiguration("--oidc-issuer-url: the URL must begin with https://")
    if not client:
        raise BadConfiguration("--oidc-client-id must be given with --oidc-issuer-url")
    for each in algorithms:
        if each not in ALGORITHMS:
            raise BadConfiguration(f"--oidc-signing-algs: unsupported algorithm {each}")
    prefix = "" if username_prefix == "-" else username_prefix
    if not username_prefix and username_claim != "email":
        prefix = f"{url}#"
    return Settings(
        url,
        (client,),
        Mapped(username_claim, prefix),
        Mapped(groups_claim, groups_prefix),
        claim_rules=tuple(ClaimRule(claim, value) for claim, value in required.items()),
        algorithms=algorithms,
        authority=authority,
    )


def _issuer(node: Node) -> Settings:
    issuer = node.child("issuer")
    url = issuer.text("url", required=True)
    _check_url(issuer, "url", url)
    discovery = issuer.text("discoveryURL")
    if discovery:
        _check_url(issuer, "discoveryURL", discovery)
        if discovery == url:
            raise issuer.error("discoveryURL", "must be different from url")
    authority = issuer.text("certificateAuthority")
    if authority:
        try:
            ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            raise issuer.error("certificateAuthority", f"Invalid value: {error}") from None
    audiences = issuer.texts("audiences")
    if not audiences or "" in audiences:
        raise issuer.error("audiences", "Required value: at least one issuer audience is required")
    policy = issuer.choice("audienceMatchPolicy", ("", _MATCH_ANY))
    if len(audiences) > 1 and policy != _MATCH_ANY:
        raise issuer.error("audienceMatchPolicy", f'must be "{_MATCH_ANY}" for multiple audiences')
    if issuer.has("egressSelectorType"):
        raise issuer.error("egressSelectorType", "this server has no egress selectors")
    issuer.done()
    rules = tuple(_claim_rule(each) for each in node.children("claimValidationRules"))
    mappings = node.child("claimMappings")
    username = _mapped(mappings.child("username"), STRING, prefixed=True)
    if not (username.claim or username.program):
        raise mappings.error("username", "Required value: claim or expression is required")
    groups = _mapped(mappings.child("groups"), None, prefixed=True)
    uid = _mapped(mappings.child("uid"), STRING, prefixed=False)
    extra = tuple(_extra(each) for each in mappings.children("extra"))
    keys = [key for key, _ in extra]
    if len(set(keys)) < len(keys):
        raise mappings.error("extra", "Duplicate value: a key occurs twice")
    mappings.done()
    users = tuple(_user_rule(each) for each in node.children("userValidationRules"))
    node.done()
    _check_email(mappings, username, rules, [program for _, program in extra])
    return Settings(
        url,
        audiences,
        username,
        groups,
        uid,
        extra,
        rules,
        users,
        discovery_url=discovery,
        authority=authority,
    )


def _check_url(node: Node, name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise node.error(name, f'Invalid value: "{url}": URL scheme must be https')
    if parts.username or parts.query or parts.fragment:
        raise node.error(name, f'Invalid value: "{url}": URL must not contain a user, query or fragment')


def _compile(node: Node, name: str, source: str, environment: Environment, result: Type | None) -> Program:
    try:
        return environment.compile(source, result)
    except CompileError as error:
        raise node.error(name, f'Invalid value: "{source}": compilation failed: {error}') from None


def _claim_rule(node: Node) -> ClaimRule:
    claim, value = node.text("claim"), node.text("requiredValue")
    source, message = node.text("expression"), node.text("message")
    node.done()
    if bool(claim) == bool(source):
        raise node.error("", "exactly one of claim and expression is required")
    if source and value:
        raise node.error("requiredValue", "may not be given with an expression")
    if claim and message:
        raise node.error("message", "may not be given with a claim")
    program = _compile(node, "expression", source, _OF_CLAIMS, BOOL) if source else None
    return ClaimRule(claim, value, program, message)


def _user_rule(node: Node) -> tuple[Program, str]:
    source, message = node.text("expression", required=True), node.text("message")
    node.done()
    return _compile(node, "expression", source, _OF_USER, BOOL), message


def _mapped(node: Node, result: Type | None, *, prefixed: bool) -> Mapped:
    claim, source = node.text("claim"), node.text("expression")
    prefix = node.optional_text("prefix") if prefixed else ""
    node.done()
    if claim and source:
        raise node.error("", "claim and expression can't both be set")
    if source:
        if prefix:
            raise node.error("prefix", "prefix can't be set when expression is set")
        return Mapped(program=_compile(node, "expression", source, _OF_CLAIMS, result))
    if claim and prefix is None:
        raise node.error(
            "prefix", "Required value: prefix is required when claim is set. It can be set to an empty string"
        )
    return Mapped(claim, prefix or "")


def _extra(node: Node) -> tuple[str, Program]:
    key, source = node.text("key", required=True), node.text("valueExpression", required=True)
    node.done()
    domain = key.partition("/")[0]
    if not _EXTRA_KEY.fullmatch(key):
        raise node.error("key", f'Invalid value: "{key}": must be a domain-prefixed path of lower-case characters')
    if any(domain == each or domain.endswith(f".{each}") for each in _RESERVED):
        raise node.error("key", f'Invalid value: "{key}": {domain} is reserved for Kubernetes')
    return key, _compile(node, "valueExpression", source, _OF_CLAIMS, None)


def _check_email(node: Node, username: Mapped, rules: tuple[ClaimRule, ...], others: list[Program]) -> None:
    """An email is no name as long as nobody says that it was verified."""
    if username.program is None or "claims.email" not in username.program.source.replace("claims.email_verified", ""):
        return
    programs = [username.program, *others, *(rule.program for rule in rules if rule.program is not None)]
    if not any("claims.email_verified" in each.source or "claims.?email_verified" in each.source for each in programs):
        raise node.error(
            "username.expression",
            "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*]."
            "valueExpression or claimValidationRules[*].expression when claims.email is used",
        )


def _anonymous(node: Node) -> AnonymousRule:
    enabled = node.flag("enabled")
    paths = []
    for each in node.children("conditions"):
        paths.append(each.text("path", required=True))
        each.done()
    node.done()
    if paths and not enabled:
        raise node.error("conditions", "enabled should be set to true when conditions are defined")
    return AnonymousRule(enabled, tuple(paths) or None)

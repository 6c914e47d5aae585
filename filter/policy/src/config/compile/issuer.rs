//! `auth.issuers`: who may sign, with what, for which tenants.

use super::*;
use crate::authn::{self, Algorithm, Issuer, KeySet, KeySource, RemoteJwks, TenantSet};
use crate::tenant_id;

/// What the rest of the document means for an issuer.
pub(super) struct Context<'a> {
    /// Whether tokens are verified here (`mode: verify`); where not, keys are not needed.
    pub(super) verifies: bool,
    /// Whether there are several issuers.
    pub(super) several: bool,
    /// `tenant_id.fold_uuid`.
    pub(super) fold: bool,
    /// The VM's environment variables.
    pub(super) env: &'a Environment,
}

pub(super) fn issuer(raw: raw::RawIssuer, context: &Context<'_>, at: &Pointer, faults: &mut Faults) -> Option<Issuer> {
    let name = faults.required(
        at.child("issuer"),
        raw.issuer,
        "a non-empty issuer identifier",
        |text| (!text.is_empty()).then(|| text.to_owned()),
    );
    let audiences = match raw.audiences {
        Some(list) if list.is_empty() || list.iter().any(String::is_empty) => faults.refuse(
            at.child("audiences"),
            "an empty audience or none",
            "non-empty strings, or no `audiences` to accept any",
        ),
        other => Some(other.unwrap_or_default()),
    };
    let algorithms = match raw.algorithms {
        None if !context.verifies => Some(Vec::new()),
        names => algorithms(names, &at.child("algorithms"), faults),
    };
    let tenants = match raw.tenants {
        None if context.several => {
            faults.missing(
                at.child("tenants"),
                "`any`, or an object with `ids` and `prefixes`: required with several issuers",
            );
            None
        }
        None | Some(raw::RawTenants::Any) => Some(TenantSet::Any),
        Some(raw::RawTenants::Some(set)) => {
            let (ids, prefixes) = (set.ids.unwrap_or_default(), set.prefixes.unwrap_or_default());
            tenant_set(&ids, &prefixes, context.fold, &at.child("tenants"), faults)
        }
    };
    let keys = if context.verifies {
        let jwks = raw.jwks.unwrap_or_default();
        jwks_source(jwks, algorithms.as_deref(), context, &at.child("jwks"), faults)
    } else {
        Some(KeySource::Elsewhere)
    };
    Some(Issuer::new(name?, audiences?, algorithms?, tenants?, keys?))
}

fn jwks_source(
    raw: raw::RawJwks,
    algorithms: Option<&[Algorithm]>,
    context: &Context<'_>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<KeySource> {
    match (raw.inline, raw.remote) {
        (Some(_), Some(_)) => faults.refuse(at.clone(), "both `inline` and `remote`", "one of them"),
        (None, Some(remote)) => {
            let symmetric = algorithms.is_some_and(|list| list.iter().copied().any(Algorithm::is_symmetric));
            if symmetric {
                return faults.refuse(
                    at.child("remote"),
                    "a set that is fetched",
                    "`inline` for HMAC: a fetched set holds no shared secrets",
                );
            }
            remote_jwks(remote, &at.child("remote"), faults).map(KeySource::Remote)
        }
        (inline, None) => {
            let keys_at = at.child("inline").child("keys");
            match (inline.and_then(|set| set.keys), algorithms) {
                (None, _) => {
                    faults.missing(keys_at, "a list of JSON Web Keys, or `remote` instead of `inline`");
                    None
                }
                (Some(_), None) => None,
                (Some(keys), Some(algorithms)) => {
                    inline_keys(&keys, algorithms, context, &keys_at, faults).map(KeySource::Inline)
                }
            }
        }
    }
}

fn inline_keys(
    keys: &[serde_json::Value],
    algorithms: &[Algorithm],
    context: &Context<'_>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<KeySet> {
    let (set, refused) = KeySet::load(keys, algorithms, &|name| context.env.var(name).map(str::to_owned));
    let (unset, refused): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .partition(|key| key.reason == authn::NO_SUCH_VARIABLE);
    for key in &unset {
        let name = keys.get(key.index).and_then(|key| key.get("k_env")?.as_str());
        faults.unset(
            at.child(key.index).child("k_env"),
            context.env,
            name.unwrap_or_default(),
        );
    }
    if !unset.is_empty() {
        return None;
    }
    let refused: Vec<_> = refused
        .into_iter()
        .map(|key| ConfigError {
            pointer: at.child(key.index),
            problem: Problem::Key {
                name: shown(&key.name),
                reason: key.reason,
            },
        })
        .collect();
    if set.is_some() {
        faults.warnings.extend(refused);
        return set;
    }
    if refused.is_empty() {
        faults.push(
            at.clone(),
            unacceptable("no usable key", "at least one key that fits `algorithms`"),
        );
    }
    for fault in refused {
        faults.push(fault.pointer, fault.problem);
    }
    None
}

fn remote_jwks(raw: raw::RawRemoteJwks, at: &Pointer, faults: &mut Faults) -> Option<RemoteJwks> {
    let cluster = faults.cluster(at.child("cluster"), raw.cluster);
    let authority = faults.authority(at.child("authority"), raw.authority);
    let path = faults.required_told(
        at.child("path"),
        raw.path,
        untold,
        "a path that starts with `/`, of visible ASCII, without `#`",
        |text| {
            let visible = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            (text.starts_with('/') && text.len() <= 2_048 && visible).then(|| text.to_owned())
        },
    );
    let timeout_ms = faults.number(at.child("timeout_ms"), raw.timeout_ms, 2_000, 1..=60_000);
    let refresh_ms = faults.milliseconds(at.child("refresh_seconds"), raw.refresh_seconds, 300, 1..=86_400);
    let max_stale_ms = faults.milliseconds(at.child("max_stale_seconds"), raw.max_stale_seconds, 3_600, 0..=604_800);
    let unknown_kid_cooldown_ms = faults.milliseconds(
        at.child("unknown_kid_cooldown_seconds"),
        raw.unknown_kid_cooldown_seconds,
        30,
        1..=3_600,
    );
    Some(RemoteJwks {
        cluster: cluster?,
        authority: authority?,
        path: path?,
        timeout_ms: timeout_ms?,
        refresh_ms: refresh_ms?,
        max_stale_ms: max_stale_ms?,
        unknown_kid_cooldown_ms: unknown_kid_cooldown_ms?,
    })
}

fn algorithms(raw: Option<Vec<String>>, at: &Pointer, faults: &mut Faults) -> Option<Vec<Algorithm>> {
    let Some(names) = raw.filter(|names| !names.is_empty()) else {
        faults.missing(at.clone(), &format!("a list of {}", Algorithm::names()));
        return None;
    };
    let known: Vec<Algorithm> = names.iter().filter_map(|name| Algorithm::parse(name)).collect();
    let algorithms = all(names, |index, name| {
        Algorithm::parse(&name).or_else(|| faults.refuse(at.child(index), quoted(&name), &Algorithm::names()))
    });
    let symmetric = known.iter().filter(|algorithm| algorithm.is_symmetric()).count();
    if symmetric != 0 && symmetric != known.len() {
        return faults.refuse(
            at.clone(),
            "HMAC beside signature algorithms",
            "one or the other: a public key must never be taken for a shared secret",
        );
    }
    algorithms
}

fn tenant_set(ids: &[String], prefixes: &[String], fold: bool, at: &Pointer, faults: &mut Faults) -> Option<TenantSet> {
    if ids.is_empty() && prefixes.is_empty() {
        return faults.refuse(
            at.clone(),
            "no id and no prefix",
            "`any`, or at least one of `ids` and `prefixes`",
        );
    }
    let ids_at = at.child("ids");
    let ids = all(ids.iter(), |index, id| {
        tenant_id::TenantId::parse(id, fold).or_else(|| faults.refuse(ids_at.child(index), quoted(id), NAME))
    });
    let prefixes_at = at.child("prefixes");
    let prefixes = all(prefixes.iter(), |index, prefix| {
        if tenant_id::is_well_formed(prefix) {
            Some(prefix.clone())
        } else {
            faults.refuse(prefixes_at.child(index), quoted(prefix), NAME)
        }
    });
    Some(TenantSet::Only {
        ids: ids?,
        prefixes: prefixes?,
    })
}

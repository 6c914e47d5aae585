//! `auth`: issuers, keys, what a credential may be.

use super::*;
use crate::authn::{Algorithm, KeySet, TenantSet};
use crate::tenant_id;

pub(super) fn auth(
    raw: Option<raw::RawAuth>,
    tenant_id: Option<&TenantIdRules>,
    at: &Pointer,
    faults: &mut Faults,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Auth> {
    let raw = raw.unwrap_or_default();
    let max_token_bytes = faults.number(at.child("max_token_bytes"), raw.max_token_bytes, 16_384, 64..=65_536);
    let leeway_seconds = faults.number(at.child("leeway_seconds"), raw.leeway_seconds, 60, 0..=600);
    let accepted_types = AcceptedTypes::new(
        raw.accepted_types
            .as_deref()
            .unwrap_or(&["JWT".into(), "at+jwt".into()]),
    )
    .or_else(|| {
        faults.refuse(
            at.child("accepted_types"),
            "a list with an unusable element",
            "media types such as `JWT` and `at+jwt`",
        )
    });
    let header = match raw.header {
        None => HeaderName::parse("authorization"),
        some => faults.required(at.child("header"), some, HEADER, |text| {
            HeaderName::parse(text).filter(|name| name.as_str() == "authorization" || name.may_be_rewritten())
        }),
    };
    if let Some(header) = &header {
        if header.is_reserved() {
            let found = quoted(header.as_str());
            faults.push(
                at.child("header"),
                unacceptable(
                    found,
                    "a name outside `x-tenant-*`, which the filter takes out of every request",
                ),
            );
        }
        faults.claim(at.child("header"), header);
    }
    let issuers_at = at.child("issuers");
    if let Some(list) = &raw.issuers {
        for (index, issuer) in list.iter().enumerate() {
            let earlier = list.iter().take(index).filter_map(|issuer| issuer.issuer.as_deref());
            if let Some(name) = issuer.issuer.as_deref()
                && earlier.into_iter().any(|other| other == name)
            {
                let at = issuers_at.child(index).child("issuer");
                faults.push(at, unacceptable(quoted(name), "each issuer once"));
            }
        }
    }
    let several = raw.issuers.as_ref().is_some_and(|list| list.len() > 1);
    let fold = tenant_id.is_some_and(|rules| rules.fold_uuid);
    let issuers = match raw.issuers {
        Some(list) if !list.is_empty() && list.len() <= 32 => all(list, |index, issuer| {
            self::issuer(issuer, several, fold, &issuers_at.child(index), faults, env)
        }),
        Some(list) if list.len() > 32 => {
            faults.refuse(issuers_at.clone(), format!("{} issuers", list.len()), "at most 32")
        }
        _ => {
            faults.missing(issuers_at.clone(), "a list of at least one issuer");
            None
        }
    };
    Some(Auth {
        max_token_bytes: max_token_bytes?,
        require_exp: raw.require_exp.unwrap_or(true),
        leeway_seconds: leeway_seconds?,
        accepted_types: accepted_types?,
        forward_token: raw.forward_token.unwrap_or(true),
        header: header?,
        issuers: issuers?,
    })
}

fn issuer(
    raw: raw::RawIssuer,
    several: bool,
    fold: bool,
    at: &Pointer,
    faults: &mut Faults,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Issuer> {
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
    let algorithms = algorithms(raw.algorithms, &at.child("algorithms"), faults);
    let tenants = match raw.tenants {
        None if several => {
            faults.missing(
                at.child("tenants"),
                "`any`, or an object with `ids` and `prefixes`: required with several issuers",
            );
            None
        }
        None | Some(raw::RawTenants::Any) => Some(TenantSet::Any),
        Some(raw::RawTenants::Some(set)) => {
            let (ids, prefixes) = (set.ids.unwrap_or_default(), set.prefixes.unwrap_or_default());
            tenant_set(&ids, &prefixes, fold, &at.child("tenants"), faults)
        }
    };
    let keys_at = at.child("jwks").child("inline").child("keys");
    let keys = raw.jwks.and_then(|jwks| jwks.inline).and_then(|set| set.keys);
    let keys = match (keys, &algorithms) {
        (None, _) => {
            faults.missing(keys_at, "a list of JSON Web Keys");
            None
        }
        (Some(_), None) => None,
        (Some(keys), Some(algorithms)) => {
            let (set, refused) = KeySet::load(&keys, algorithms, env);
            let refused = refused.into_iter().map(|key| ConfigError {
                pointer: keys_at.child(key.index),
                problem: Problem::Key {
                    name: shown(&key.name),
                    reason: key.reason,
                },
            });
            match set {
                Some(set) => {
                    faults.warnings.extend(refused);
                    Some(set)
                }
                None => {
                    let reasons: Vec<_> = refused.collect();
                    if reasons.is_empty() {
                        faults.push(
                            keys_at,
                            unacceptable("no usable key", "at least one key that fits `algorithms`"),
                        );
                    }
                    for fault in reasons {
                        faults.push(fault.pointer, fault.problem);
                    }
                    None
                }
            }
        }
    };
    Some(Issuer::new(name?, audiences?, algorithms?, tenants?, keys?))
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

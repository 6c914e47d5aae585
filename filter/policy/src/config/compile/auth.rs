//! `auth`: what a credential may be, where claims come from, what is remembered.

use super::*;
use crate::authn::MetadataPath;

pub(super) fn auth(
    raw: Option<raw::RawAuth>,
    tenant_id: Option<&TenantIdRules>,
    at: &Pointer,
    faults: &mut Faults,
    env: &Environment,
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
    let source = source(raw.mode, raw.upstream_metadata, &at.child("upstream_metadata"), faults);
    let verifies = raw.mode != Some(raw::AuthMode::UpstreamMetadata);
    let token_cache = token_cache(raw.token_cache.unwrap_or_default(), &at.child("token_cache"), faults);
    let several = raw.issuers.as_ref().is_some_and(|list| list.len() > 1);
    let fold = tenant_id.is_some_and(|rules| rules.fold_uuid);
    let issuers = match raw.issuers {
        Some(list) if !list.is_empty() && list.len() <= 32 => all(list, |index, issuer| {
            let context = issuer::Context {
                verifies,
                several,
                fold,
                env,
            };
            issuer::issuer(issuer, &context, &issuers_at.child(index), faults)
        }),
        Some(list) if list.len() > 32 => {
            faults.refuse(issuers_at.clone(), format!("{} issuers", list.len()), "at most 32")
        }
        None if !verifies => Some(Vec::new()),
        Some(_) if !verifies => faults.refuse(
            issuers_at.clone(),
            "an empty list",
            "at least one issuer, or no `issuers` to accept any",
        ),
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
        source: source?,
        token_cache: token_cache?,
        kept_claims: tenant_id.map(|rules| rules.claim.clone()).into_iter().collect(),
    })
}

fn source(
    mode: Option<raw::AuthMode>,
    raw: Option<raw::RawMetadata>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<ClaimsSource> {
    let raw = raw.unwrap_or_default();
    let mut name = |member, text: Option<String>, default: &str| {
        let text = text.unwrap_or_else(|| default.to_owned());
        if text.is_empty() || text.len() > 256 {
            return faults.refuse(at.child(member), quoted(&text), "a name of 1 to 256 bytes");
        }
        Some(text)
    };
    let namespace = name("namespace", raw.namespace, "envoy.filters.http.jwt_authn");
    let payload = name("payload", raw.payload, "jwt_payload");
    let path = MetadataPath {
        namespace: namespace?,
        payload: payload?,
    };
    Some(match mode {
        None | Some(raw::AuthMode::Verify) => ClaimsSource::Credential,
        Some(raw::AuthMode::UpstreamMetadata) => ClaimsSource::Metadata(path),
    })
}

fn token_cache(raw: raw::RawTokenCache, at: &Pointer, faults: &mut Faults) -> Option<TokenCache> {
    let max_entries = faults.number(at.child("max_entries"), raw.max_entries, 10_000, 0..=1_000_000);
    let max_bytes = faults.number(at.child("max_bytes"), raw.max_bytes, 16_777_216, 1_024..=268_435_456);
    let ttl_ms = faults.milliseconds(at.child("ttl_seconds"), raw.ttl_seconds, 300, 1..=86_400);
    Some(TokenCache {
        max_entries: max_entries?,
        max_bytes: max_bytes?,
        ttl_ms: ttl_ms?,
    })
}

//! `scope`: what is told to the upstream, and what is scoped.

use super::*;

/// What other blocks of the document decide about `scope`.
pub(super) struct Surroundings<'a> {
    /// Whether there is a tenant record.
    pub(super) has_record: bool,
    pub(super) public: Option<&'a [PublicPath]>,
    /// The claim that names the tenant.
    pub(super) tenant_claim: Option<&'a str>,
}

pub(super) fn scope(
    raw: raw::RawScope,
    surroundings: &Surroundings<'_>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<Scope> {
    let has_record = surroundings.has_record;
    let emit = emit(raw.emit.unwrap_or_default(), has_record, &at.child("emit"), faults);
    let claims = claims(
        raw.emit_claims.unwrap_or_default(),
        surroundings.tenant_claim,
        &at.child("emit_claims"),
        faults,
    );
    let rules_at = at.child("headers");
    let rules = all(raw.headers.unwrap_or_default(), |index, rule| {
        let at = rules_at.child(index);
        let name = key_header(rule.name, &at, faults);
        if let Some(name) = &name {
            faults.claim(at.child("name"), name);
        }
        let kind = header_kind(rule.kind, &at, faults);
        if rule.pattern.is_some() && rule.kind.is_some_and(|kind| kind != Kind::Redis) {
            faults.push(
                at.child("pattern"),
                unacceptable("a flag", "nothing: only `redis_key` has patterns"),
            );
        }
        Some(ScopeRule {
            name: name?,
            kind: kind?,
            pattern: rule.pattern.unwrap_or(false),
            required: rule.required.unwrap_or(false),
        })
    });
    let paths_at = at.child("path");
    let paths = all(raw.path.unwrap_or_default(), |index, rule| {
        path(rule, surroundings.public, &paths_at.child(index), faults)
    });
    let response_at = at.child("response");
    let mut seen: Vec<HeaderName> = Vec::new();
    let response = all(raw.response.unwrap_or_default(), |index, rule| {
        let at = response_at.child(index);
        let name = key_header(rule.name, &at, faults);
        if let Some(name) = &name {
            if seen.iter().any(|other| other.folds_like(name)) {
                faults.push(
                    at.child("name"),
                    unacceptable(quoted(name.as_str()), "each header once"),
                );
            }
            seen.push(name.clone());
        }
        let kind = header_kind(rule.kind, &at, faults);
        Some(ResponseRule {
            name: name?,
            kind: kind?,
        })
    });
    Some(Scope {
        emit: emit?,
        rules: rules?,
        paths: paths?,
        response: response?,
        claims: claims?,
        properties: raw.properties.unwrap_or(false),
    })
}

/// A header that may hold a key.
fn key_header(name: Option<String>, at: &Pointer, faults: &mut Faults) -> Option<HeaderName> {
    let name = faults.required(at.child("name"), name, HEADER, |text| {
        HeaderName::parse(text).filter(HeaderName::may_be_rewritten)
    })?;
    if name.is_reserved() {
        faults.push(
            at.child("name"),
            unacceptable(
                quoted(name.as_str()),
                "a name outside `x-tenant-*`, which the filter owns",
            ),
        );
    }
    Some(name)
}

/// How a header is scoped: by every kind but the one for the path.
fn header_kind(kind: Option<Kind>, at: &Pointer, faults: &mut Faults) -> Option<Kind> {
    const ACCEPTED: &str = "`routing_key`, `binding_key`, `redis_key`, `idempotency_key`, `storage_key`";
    match kind {
        Some(Kind::StoragePath) => faults.refuse(at.child("kind"), "`storage_path`", ACCEPTED),
        None => {
            faults.missing(at.child("kind"), ACCEPTED);
            None
        }
        kind => kind,
    }
}

fn path(rule: raw::RawPathRule, public: Option<&[PublicPath]>, at: &Pointer, faults: &mut Faults) -> Option<Prefix> {
    let prefix = faults.required(at.child("prefix"), rule.prefix, PREFIX, Prefix::parse);
    match rule.kind {
        Some(Kind::StoragePath) => {}
        None => faults.missing(at.child("kind"), "`storage_path`"),
        Some(_) => faults.push(at.child("kind"), unacceptable("a kind for headers", "`storage_path`")),
    }
    let prefix = prefix?;
    if is_partly_public(public, &prefix) {
        return faults.refuse(
            at.child("prefix"),
            quoted(prefix.as_str()),
            "a path that no public prefix covers and that covers none: what is public has no tenant",
        );
    }
    Some(prefix)
}

fn claims(
    raw: raw::Members<String>,
    tenant_claim: Option<&str>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<Vec<(String, HeaderName)>> {
    const MAX_CLAIMS: usize = 32;
    if raw.0.len() > MAX_CLAIMS {
        let found = format!("{} claims", raw.0.len());
        return faults.refuse(at.clone(), found, &format!("at most {MAX_CLAIMS}"));
    }
    all(raw.0, |_, (claim, name)| {
        let at = at.child(&claim);
        if claim.is_empty() || claim.len() > 256 || tenant_claim == Some(claim.as_str()) {
            return faults.refuse(
                at,
                quoted(&claim),
                "a claim name of 1 to 256 bytes other than the tenant's, which `emit` is for",
            );
        }
        let name = faults.required(at.clone(), Some(name), HEADER, |text| {
            HeaderName::parse(text).filter(HeaderName::may_be_rewritten)
        })?;
        faults.claim(at, &name);
        Some((claim, name))
    })
}

fn emit(raw: raw::RawEmit, has_record: bool, at: &Pointer, faults: &mut Faults) -> Option<Emit> {
    let mut name = |member: &str, text: Option<String>, from_record: bool| {
        let at = at.child(member);
        if from_record && !has_record && text.is_some() {
            return faults.refuse(
                at,
                "a field of the tenant record",
                "nothing without `tenant_manager`: there is no record",
            );
        }
        let Some(text) = text else {
            return Some(None);
        };
        let name = faults.required(at.clone(), Some(text), HEADER, |text| {
            HeaderName::parse(text).filter(HeaderName::may_be_rewritten)
        })?;
        faults.claim(at, &name);
        Some(Some(name))
    };
    let tenant_id = name(
        "tenant_id",
        raw.tenant_id.or_else(|| Some("x-tenant-id".to_owned())),
        false,
    );
    let slug = name("slug", raw.slug, true);
    let isolation_mode = name("isolation_mode", raw.isolation_mode, true);
    let schema = name("schema", raw.schema, true);
    let module = name("module", raw.module, false);
    let vhost = name("vhost", raw.vhost, true);
    Some(Emit {
        tenant_id: tenant_id??,
        slug: slug?,
        isolation_mode: isolation_mode?,
        schema: schema?,
        module: module?,
        vhost: vhost?,
    })
}

//! `scope`: what is told to the upstream, and what is scoped.

use super::*;

pub(super) fn scope(raw: raw::RawScope, has_record: bool, at: &Pointer, faults: &mut Faults) -> Option<Scope> {
    let emit = emit(raw.emit.unwrap_or_default(), has_record, &at.child("emit"), faults);
    let rules_at = at.child("headers");
    let rules = all(raw.headers.unwrap_or_default(), |index, rule| {
        let at = rules_at.child(index);
        let name = faults.required(at.child("name"), rule.name, HEADER, |text| {
            HeaderName::parse(text).filter(HeaderName::may_be_rewritten)
        });
        if let Some(name) = &name {
            if name.is_reserved() {
                faults.push(
                    at.child("name"),
                    unacceptable(
                        quoted(name.as_str()),
                        "a name outside `x-tenant-*`, which the filter owns",
                    ),
                );
            }
            faults.claim(at.child("name"), name);
        }
        if rule.kind.is_none() {
            faults.missing(at.child("kind"), "`routing_key`, `redis_key`, `storage_key`");
        }
        if rule.pattern.is_some() && rule.kind.is_some_and(|kind| kind != Kind::Redis) {
            faults.push(
                at.child("pattern"),
                unacceptable("a flag", "nothing: only `redis_key` has patterns"),
            );
        }
        Some(ScopeRule {
            name: name?,
            kind: rule.kind?,
            pattern: rule.pattern.unwrap_or(false),
            required: rule.required.unwrap_or(false),
        })
    });
    Some(Scope {
        emit: emit?,
        rules: rules?,
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

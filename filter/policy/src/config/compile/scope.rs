//! `scope`: what is told to the upstream, and what is scoped.

use super::*;

pub(super) fn scope(raw: raw::RawScope, has_record: bool, at: &Pointer, faults: &mut Faults) -> Option<Scope> {
    let emit = emit(raw.emit.unwrap_or_default(), has_record, &at.child("emit"), faults);
    // One header has one meaning: no two rules for it, and none for a header that is ours.
    let mut taken: Vec<HeaderName> = emit
        .iter()
        .flat_map(Emit::named)
        .map(|(_, name)| name.clone())
        .collect();
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
            if taken.iter().any(|earlier| earlier.folds_like(name)) {
                faults.push(
                    at.child("name"),
                    unacceptable(quoted(name.as_str()), "a name that nothing else uses"),
                );
            }
            taken.push(name.clone());
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
    let mut name = |member: &str, text: Option<String>, from_record: bool| match text {
        None => Some(None),
        Some(_) if from_record && !has_record => faults.refuse(
            at.child(member),
            "a field of the tenant record",
            "nothing without `tenant_manager`: there is no record",
        ),
        some => faults
            .required(at.child(member), some, HEADER, |text| {
                HeaderName::parse(text).filter(HeaderName::may_be_rewritten)
            })
            .map(Some),
    };
    let tenant_id = name("tenant_id", raw.tenant_id, false);
    let slug = name("slug", raw.slug, true);
    let isolation_mode = name("isolation_mode", raw.isolation_mode, true);
    let schema = name("schema", raw.schema, true);
    let module = name("module", raw.module, false);
    let emit = Emit {
        tenant_id: tenant_id?.or_else(|| HeaderName::parse("x-tenant-id"))?,
        slug: slug?,
        isolation_mode: isolation_mode?,
        schema: schema?,
        module: module?,
    };
    for (position, (member, name)) in emit.named().enumerate() {
        if emit.named().take(position).any(|(_, earlier)| earlier.folds_like(name)) {
            faults.push(
                at.child(member),
                unacceptable(quoted(name.as_str()), "a name that nothing else uses"),
            );
        }
    }
    Some(emit)
}

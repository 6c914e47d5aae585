//! `tenant_manager`: whom to ask, and what to remember.

use super::*;

pub(super) fn tenant_manager(
    raw: raw::RawTenantManager,
    at: &Pointer,
    faults: &mut Faults,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<TenantManager> {
    let cluster = faults.cluster(at.child("cluster"), raw.cluster);
    let authority = faults.authority(at.child("authority"), raw.authority);
    let path = PathTemplate::parse(
        raw.path
            .as_deref()
            .unwrap_or("/tenants/{tenantId}/services/{service}/settings"),
    )
    .or_else(|| {
        faults.refuse(
            at.child("path"),
            untold(""),
            "a path that starts with `/` and names `{tenantId}` once, and `{service}` where needed",
        )
    });
    let keys_at = at.child("api_keys");
    let api_keys = match raw.api_keys {
        Some(keys) => {
            if !(1..=2).contains(&keys.len()) {
                faults.push_whole(
                    keys_at.clone(),
                    Problem::Count {
                        found: format!("{} keys", keys.len()),
                        accepted: "one or two",
                    },
                );
            }
            all(keys, |index, key| secret(key, &keys_at.child(index), faults, env))
        }
        None => {
            faults.missing(keys_at, "one or two of `{ value: … }` and `{ env: … }`");
            None
        }
    };
    let timeout_ms = faults.number(at.child("timeout_ms"), raw.timeout_ms, 2_000, 1..=60_000);
    let max_body_bytes = faults.number(
        at.child("max_body_bytes"),
        raw.max_body_bytes,
        1_048_576,
        1..=16_777_216,
    );
    let max_waiters = faults.number(at.child("max_waiters"), raw.max_waiters, 1_024, 1..=65_536);
    let cache = cache(raw.cache.unwrap_or_default(), &at.child("cache"), faults);
    Some(TenantManager {
        cluster: cluster?,
        authority: authority?,
        path: path?,
        api_keys: api_keys?,
        timeout_ms: timeout_ms?,
        max_body_bytes: max_body_bytes?,
        max_waiters: max_waiters?,
        cache: cache?,
    })
}

fn cache(raw: raw::RawCache, at: &Pointer, faults: &mut Faults) -> Option<Cache> {
    let ttl_ms = faults.milliseconds(at.child("ttl_seconds"), raw.ttl_seconds, 120, 1..=86_400);
    let negative_ttl_ms = faults.milliseconds(
        at.child("negative_ttl_seconds"),
        raw.negative_ttl_seconds,
        10,
        1..=3_600,
    );
    let entries: Option<usize> = faults.number(at.child("max_entries"), raw.max_entries, 10_000, 1..=1_000_000);
    Some(Cache {
        ttl_ms: ttl_ms?,
        negative_ttl_ms: negative_ttl_ms?,
        max_entries: NonZeroUsize::new(entries?)?,
    })
}

fn secret(
    raw: raw::RawSecret,
    at: &Pointer,
    faults: &mut Faults,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Secret> {
    const ACCEPTED: &str = "either `value` or `env`, giving 1 to 4096 visible ASCII characters";
    let (place, text) = match (raw.value, raw.env) {
        (Some(value), None) => (at.child("value"), Some(value)),
        (None, Some(name)) => (at.child("env"), env(&name)),
        (Some(_), Some(_)) => return faults.refuse(at.clone(), "both", ACCEPTED),
        (None, None) => {
            faults.missing(at.clone(), ACCEPTED);
            return None;
        }
    };
    match text {
        None if faults.demanding => faults.refuse(place, "a variable that the VM does not have", VARIABLE),
        None => None,
        Some(text) if text.is_empty() || text.len() > 4_096 || !text.bytes().all(|b| b.is_ascii_graphic()) => {
            faults.refuse(place, "an unusable value", ACCEPTED)
        }
        Some(text) => Some(Secret::new(text)),
    }
}

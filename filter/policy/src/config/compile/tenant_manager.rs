//! `tenant_manager`: whom to ask, and what to remember.

use super::*;
use crate::config::manager::{DISCOVERY_PATH, SETTINGS_PATH};

/// Slots of the shared table come in sets of so many.
const SLOTS_PER_SET: u32 = 8;

pub(super) fn tenant_manager(
    raw: raw::RawTenantManager,
    at: &Pointer,
    faults: &mut Faults,
    env: &Environment,
) -> Option<TenantManager> {
    let cluster = faults.cluster(at.child("cluster"), raw.cluster);
    let authority = faults.authority(at.child("authority"), raw.authority);
    let path = PathTemplate::parse(raw.path.as_deref().unwrap_or(SETTINGS_PATH)).or_else(|| {
        faults.refuse(
            at.child("path"),
            untold(""),
            "a path that starts with `/` and names `{tenantId}` once, and `{service}` where needed",
        )
    });
    let api_keys = api_keys::api_keys(raw.api_keys, &at.child("api_keys"), faults, env);
    let timeout_ms = faults.number(at.child("timeout_ms"), raw.timeout_ms, 2_000, 1..=60_000);
    let max_body_bytes = faults.number(
        at.child("max_body_bytes"),
        raw.max_body_bytes,
        1_048_576,
        1..=16_777_216,
    );
    let max_waiters = faults.number(at.child("max_waiters"), raw.max_waiters, 1_024, 1..=65_536);
    let cache = cache(raw.cache.unwrap_or_default(), &at.child("cache"), faults);
    let breaker = breaker(raw.breaker.unwrap_or_default(), &at.child("breaker"), faults);
    let discovery = match raw.discovery {
        Some(block) => discovery(block, &at.child("discovery"), faults).map(Some),
        None => Some(None),
    };
    Some(TenantManager {
        cluster: cluster?,
        authority: authority?,
        path: path?,
        api_keys: api_keys?,
        timeout_ms: timeout_ms?,
        max_body_bytes: max_body_bytes?,
        max_waiters: max_waiters?,
        on_unavailable: raw.on_unavailable.unwrap_or(OnUnavailable::Deny),
        cache: cache?,
        breaker: breaker?,
        discovery: discovery?,
    })
}

fn cache(raw: raw::RawCache, at: &Pointer, faults: &mut Faults) -> Option<Cache> {
    let ttl_ms = faults.milliseconds(at.child("ttl_seconds"), raw.ttl_seconds, 120, 1..=86_400);
    let stale_while_revalidate_ms = faults.milliseconds(
        at.child("stale_while_revalidate_seconds"),
        raw.stale_while_revalidate_seconds,
        30,
        0..=3_600,
    );
    let stale_if_error_ms = faults.milliseconds(
        at.child("stale_if_error_seconds"),
        raw.stale_if_error_seconds,
        300,
        0..=86_400,
    );
    let negative_ttl_ms = faults.milliseconds(
        at.child("negative_ttl_seconds"),
        raw.negative_ttl_seconds,
        10,
        1..=3_600,
    );
    let entries: Option<usize> = faults.number(at.child("max_entries"), raw.max_entries, 10_000, 1..=1_000_000);
    let max_bytes = faults.number(at.child("max_bytes"), raw.max_bytes, 8_388_608, 1_024..=268_435_456);
    let slots: Option<u32> = faults.number(at.child("shared_slots"), raw.shared_slots, 16_384, 8..=1_048_576);
    Some(Cache {
        ttl_ms: ttl_ms?,
        stale_while_revalidate_ms: stale_while_revalidate_ms?,
        stale_if_error_ms: stale_if_error_ms?,
        negative_ttl_ms: negative_ttl_ms?,
        max_entries: NonZeroUsize::new(entries?)?,
        max_bytes: max_bytes?,
        shared_slots: slots?.checked_next_multiple_of(SLOTS_PER_SET)?,
    })
}

fn breaker(raw: raw::RawBreaker, at: &Pointer, faults: &mut Faults) -> Option<Breaker> {
    let threshold = faults.number(at.child("threshold"), raw.threshold, 5, 1..=1_000);
    let open_ms = faults.milliseconds(at.child("open_seconds"), raw.open_seconds, 30, 1..=3_600);
    Some(Breaker {
        threshold: threshold?,
        open_ms: open_ms?,
    })
}

fn discovery(raw: raw::RawDiscovery, at: &Pointer, faults: &mut Faults) -> Option<Discovery> {
    let path = raw.path.unwrap_or_else(|| DISCOVERY_PATH.to_owned());
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"{}#\\?".contains(&b));
    let path = if path.starts_with('/') && path.len() <= 2_048 && is_plain {
        Some(path)
    } else {
        faults.refuse(
            at.child("path"),
            untold(""),
            "a path that starts with `/`, without a query and without braces: `?service=…` is appended",
        )
    };
    let interval_ms = faults.milliseconds(at.child("interval_seconds"), raw.interval_seconds, 60, 1..=86_400);
    Some(Discovery {
        path: path?,
        interval_ms: interval_ms?,
    })
}

//! `rate_limit`: how many requests a tenant may make.

use super::*;
use crate::tenant_id::TenantId;

/// Buckets of the shared table come in sets of so many.
const SLOTS_PER_SET: u32 = 8;

pub(super) fn rate_limit(
    raw: raw::RawRateLimit,
    tenant_id: Option<&TenantIdRules>,
    at: &Pointer,
    faults: &mut Faults,
) -> Option<RateLimit> {
    let default = limit(raw.requests_per_second, raw.burst, (100, 200), at, faults);
    let slots: Option<u32> = faults.number(at.child("shared_slots"), raw.shared_slots, 16_384, 8..=1_048_576);
    let defaults = default.map_or((100, 200), |limit| {
        (u64::from(limit.requests_per_second), u64::from(limit.burst))
    });
    let at = at.child("overrides");
    let fold_uuid = tenant_id.is_some_and(|rules| rules.fold_uuid);
    let overrides = all(raw.overrides.unwrap_or_default().0, |_, (name, raw)| {
        let at = at.child(&name);
        let tenant = TenantId::parse(&name, fold_uuid).or_else(|| faults.refuse(at.clone(), quoted(&name), NAME));
        let limit = limit(raw.requests_per_second, raw.burst, defaults, &at, faults);
        Some((tenant?, limit?))
    });
    // They come ordered by name, and almost always that is where they stay.
    let mut ordered: Vec<(TenantId, Limit)> = Vec::new();
    for (tenant, limit) in overrides? {
        match ordered.binary_search_by(|(other, _)| other.cmp(&tenant)) {
            Ok(_) => return faults.refuse(at, "two spellings of one tenant", "each tenant once"),
            Err(place) => ordered.insert(place, (tenant, limit)),
        }
    }
    Some(RateLimit {
        default: default?,
        overrides: ordered,
        shared_sets: slots?.div_ceil(SLOTS_PER_SET),
        headers: raw.headers.unwrap_or(false),
    })
}

fn limit(
    requests_per_second: Option<raw::Number>,
    burst: Option<raw::Number>,
    defaults: (u64, u64),
    at: &Pointer,
    faults: &mut Faults,
) -> Option<Limit> {
    let requests_per_second = faults.number(
        at.child("requests_per_second"),
        requests_per_second,
        defaults.0,
        1..=1_000_000,
    );
    let burst = faults.number(at.child("burst"), burst, defaults.1, 1..=1_000_000);
    Some(Limit {
        requests_per_second: requests_per_second?,
        burst: burst?,
    })
}

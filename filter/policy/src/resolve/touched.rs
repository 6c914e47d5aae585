//! Whom there has been news of since somebody asked, for streams that are open longer than a request
//! takes.

use std::collections::BTreeSet;

use super::changes::News;
use crate::tenant_id::TenantId;

/// How many tenants are told apart; beyond it all are taken to be touched.
const MAX_TOLD_APART: usize = 64;

/// How soon a tenant is looked at again about whom nothing could be learned.
const AGAIN_MS: u64 = 1_000;

/// Tenants that may be known to be something else than before.
#[derive(Debug, Default)]
pub(super) struct Touched {
    tenants: Vec<TenantId>,
    everyone: bool,
    /// Of whom nothing was known when it was asked last, and when that is asked again.
    unknown: BTreeSet<TenantId>,
    again_ms: u64,
}

impl Touched {
    /// Takes in what the change log says.
    pub(super) fn hear(&mut self, news: &News) {
        match news {
            News::None => {}
            // Written by a worker of this node, well-formed and folded.
            News::Tenants(tenants) => tenants
                .iter()
                .filter_map(|tenant| TenantId::parse(tenant, false))
                .for_each(|tenant| self.add(tenant)),
            News::Everything => self.everyone = true,
        }
        self.settle();
    }

    /// Takes in what a lookup has brought.
    pub(super) fn add(&mut self, tenant: TenantId) {
        if !self.everyone && !self.tenants.contains(&tenant) {
            self.tenants.push(tenant);
            self.settle();
        }
    }

    fn settle(&mut self) {
        if self.everyone || self.tenants.len() > MAX_TOLD_APART {
            self.everyone = true;
            self.tenants.clear();
        }
    }

    /// Those of `open` that have been touched since this was asked last, and from time to time those about whom
    /// nothing is known.
    pub(super) fn take<'t>(&mut self, open: impl Iterator<Item = &'t TenantId>, now_ms: u64) -> Vec<TenantId> {
        let everyone = std::mem::take(&mut self.everyone);
        let tenants = std::mem::take(&mut self.tenants);
        let unknown = if now_ms < self.again_ms {
            BTreeSet::new()
        } else {
            self.again_ms = now_ms.saturating_add(AGAIN_MS);
            std::mem::take(&mut self.unknown)
        };
        if !everyone && tenants.is_empty() && unknown.is_empty() {
            return Vec::new();
        }
        open.filter(|tenant| everyone || tenants.contains(tenant) || unknown.contains(tenant))
            .cloned()
            .collect()
    }

    /// Notes whether anything is known of a tenant with an open stream. A question may fail, and then nobody would
    /// look at him again; there are as many of these at most as there are such tenants.
    pub(super) fn note(&mut self, tenant: &TenantId, is_known: bool) {
        if is_known {
            self.unknown.remove(tenant);
        } else {
            self.unknown.insert(tenant.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(&format!("t{number}"), false).unwrap()
    }

    #[test]
    fn whom_there_was_news_of_is_told_once() {
        let open = [tenant(1), tenant(2)];
        let mut touched = Touched::default();
        touched.hear(&News::Tenants(vec!["t2".to_owned(), "t3".to_owned()]));
        assert_eq!(touched.take(open.iter(), 0), [tenant(2)]);
        assert_eq!(touched.take(open.iter(), 0), []);
        touched.add(tenant(1));
        touched.hear(&News::None);
        assert_eq!(touched.take(open.iter(), 0), [tenant(1)]);
    }

    #[test]
    fn everything_is_everyone_and_so_are_more_than_can_be_told_apart() {
        let open = [tenant(1), tenant(5_000)];
        let mut touched = Touched::default();
        touched.hear(&News::Everything);
        assert_eq!(touched.take(open.iter(), 0), open);
        (0..MAX_TOLD_APART).for_each(|number| touched.add(tenant(number)));
        assert_eq!(touched.take(open.iter(), 0), [tenant(1)]);
        (0..=MAX_TOLD_APART).for_each(|number| touched.add(tenant(number)));
        assert!(touched.tenants.is_empty());
        assert_eq!(touched.take(open.iter(), 0), open);
    }
}

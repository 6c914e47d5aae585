//! Whom there has been news of since somebody asked, for streams that are open longer than a request
//! takes.

use super::changes::News;
use crate::tenant_id::TenantId;

/// How many tenants are told apart; beyond it all are taken to be touched.
const MAX_TOLD_APART: usize = 64;

/// Tenants that may be known to be something else than before.
#[derive(Debug, Default)]
pub(super) struct Touched {
    tenants: Vec<TenantId>,
    everyone: bool,
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

    /// Those of `open` that have been touched since this was asked last.
    pub(super) fn take<'t>(&mut self, open: impl Iterator<Item = &'t TenantId>) -> Vec<TenantId> {
        let touched = std::mem::take(self);
        if !touched.everyone && touched.tenants.is_empty() {
            return Vec::new();
        }
        open.filter(|tenant| touched.everyone || touched.tenants.contains(tenant))
            .cloned()
            .collect()
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
        assert_eq!(touched.take(open.iter()), [tenant(2)]);
        assert_eq!(touched.take(open.iter()), []);
        touched.add(tenant(1));
        touched.hear(&News::None);
        assert_eq!(touched.take(open.iter()), [tenant(1)]);
    }

    #[test]
    fn everything_is_everyone_and_so_are_more_than_can_be_told_apart() {
        let open = [tenant(1), tenant(5_000)];
        let mut touched = Touched::default();
        touched.hear(&News::Everything);
        assert_eq!(touched.take(open.iter()), open);
        (0..MAX_TOLD_APART).for_each(|number| touched.add(tenant(number)));
        assert_eq!(touched.take(open.iter()), [tenant(1)]);
        (0..=MAX_TOLD_APART).for_each(|number| touched.add(tenant(number)));
        assert!(touched.tenants.is_empty());
        assert_eq!(touched.take(open.iter()), open);
    }
}

//! How often each of a few things happened.

use std::collections::BTreeMap;

/// Counts by name. Names are few: looking through all of them is quicker than a map.
#[derive(Debug, Default)]
pub(crate) struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    pub(crate) fn count(&mut self, name: &'static str) {
        match self.0.iter_mut().find(|(known, _)| std::ptr::eq(*known, name)) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    /// The counts. The same name may stand at several addresses.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (name, count) in &self.0 {
            *all.entry(*name).or_default() += count;
        }
        all
    }
}

//! What happened how often, so that one sees that it happens.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by what was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Once more.
    pub fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// So many more.
    pub fn add(&mut self, what: &str, many: u64) {
        if let Some(known) = self.0.get_mut(what) {
            *known += many;
        } else {
            self.0.insert(what.to_owned(), many);
        }
    }

    /// Takes in what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (what, many) in &other.0 {
            self.add(what, *many);
        }
    }

    /// How often.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.0.keys().map(String::len).max().unwrap_or_default();
        for (what, many) in &self.0 {
            writeln!(f, "  {what:widest$}  {many:>10}")?;
        }
        Ok(())
    }
}

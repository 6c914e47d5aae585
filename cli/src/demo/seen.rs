//! What became of a request: judged, and told in the columns of the table.

use corpus::expect::{Observed, check, check_lookups};
use serde_json::Value;

use super::client::Reply;
use super::scenario::Row;
use super::table::Cell;

/// What became of a row's request.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Where the request ended.
    pub(super) observed: Observed,
    /// What the client got, whoever answered.
    pub(super) reply: Reply,
    /// What the Tenant Manager was asked meanwhile.
    pub(super) lookups: Vec<Observed>,
    /// Whether a record has served meanwhile that would be too old if the Tenant Manager were there.
    pub(super) fallback: bool,
}

impl Seen {
    /// Compares with what the row expects.
    ///
    /// # Errors
    /// Every mismatch, one per line.
    pub(crate) fn verdict(&self, row: &Row) -> Result<(), String> {
        let expect = &row.request.expect;
        let judged = [
            check(expect, &self.observed),
            check_lookups(expect, &self.lookups),
            self.passed_back(),
            self.served_by(row),
        ];
        let faults: Vec<_> = judged.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("\n"))
        }
    }

    /// Whoever is forwarded gets the upstream's answer.
    fn passed_back(&self) -> Result<(), String> {
        match (&self.observed, self.reply.status) {
            (Observed::Forwarded { .. }, 200) | (Observed::Replied { .. }, _) => Ok(()),
            (Observed::Forwarded { .. }, status) => Err(format!("it was forwarded, but the client got {status}")),
        }
    }

    /// What must be served from a record that is too old is not served from another.
    fn served_by(&self, row: &Row) -> Result<(), String> {
        if row.fallback && !self.fallback {
            return Err("it was not served from a record that is too old".to_owned());
        }
        Ok(())
    }

    /// The second column: what was decided, and what is worth knowing about it.
    pub(crate) fn decision(&self) -> Cell {
        let mut lines = match &self.observed {
            Observed::Forwarded { .. } => vec!["forwarded".to_owned()],
            Observed::Replied { status, body, .. } => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let code = body.get("code").and_then(Value::as_str).unwrap_or("without a code");
                vec![format!("{status} {code}")]
            }
        };
        if let Some((_, seconds)) = self.reply.headers.iter().find(|(name, _)| name == b"retry-after") {
            lines.push(format!("  retry-after: {}", seconds.escape_ascii()));
        }
        if !self.lookups.is_empty() {
            lines.push("  (Tenant Manager asked)".to_owned());
        }
        if self.fallback {
            lines.push("  (stale_if_error)".to_owned());
        }
        lines
    }

    /// The third column: of what the upstream saw, what says whose the request is.
    pub(crate) fn at_upstream(&self, row: &Row) -> Cell {
        let Observed::Forwarded { headers, .. } = &self.observed else {
            return vec!["nothing".to_owned()];
        };
        let mut lines = Vec::new();
        for watched in row.watched() {
            let values: Vec<_> = headers.iter().filter(|(name, _)| name == watched.as_bytes()).collect();
            if values.is_empty() {
                lines.push(format!("no {watched}"));
            }
            lines.extend(
                values
                    .iter()
                    .map(|(_, value)| format!("{watched}: {}", value.escape_ascii())),
            );
        }
        lines
    }
}

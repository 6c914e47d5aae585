//! What became of a request: judged, and told in the columns of the table.

use corpus::expect::{Observed, check_exchange, check_lookups};
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
            check_exchange(expect, self.received(), &self.reply.observed()),
            check_lookups(expect, &self.lookups),
            self.passed_back(row),
            self.served_by(row),
        ];
        let faults: Vec<_> = judged.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("\n"))
        }
    }

    /// What the upstream got of it.
    fn received(&self) -> &[Observed] {
        match &self.observed {
            Observed::Forwarded { .. } => std::slice::from_ref(&self.observed),
            Observed::Replied { .. } => &[],
        }
    }

    /// Whoever is forwarded gets the upstream's answer, unless it must be held back.
    fn passed_back(&self, row: &Row) -> Result<(), String> {
        match (&self.observed, self.reply.status) {
            (Observed::Forwarded { .. }, 200) | (Observed::Replied { .. }, _) => Ok(()),
            (Observed::Forwarded { .. }, _) if row.request.expect.blocked.is_some() => Ok(()),
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
    pub(crate) fn decision(&self, row: &Row) -> Cell {
        let is_forwarded = matches!(self.observed, Observed::Forwarded { .. });
        let mut lines = if is_forwarded && self.reply.status == 200 {
            vec!["forwarded".to_owned()]
        } else {
            vec![self.refusal()]
        };
        if is_forwarded && self.reply.status != 200 {
            lines.push("  (the answer was held back)".to_owned());
        }
        if let Some(seconds) = self.returned("retry-after") {
            lines.push(format!("  retry-after: {seconds}"));
        }
        let response = row.request.expect.response.iter();
        for name in response.flat_map(|response| response.headers.keys()) {
            lines.push("  the client got".to_owned());
            lines.push(format!("  {name}: {}", self.returned(name).unwrap_or_default()));
        }
        if !self.lookups.is_empty() {
            lines.push("  (Tenant Manager asked)".to_owned());
        }
        if self.fallback {
            lines.push("  (stale_if_error)".to_owned());
        }
        lines
    }

    /// How a reply says no.
    fn refusal(&self) -> String {
        let status = self.reply.status;
        if let Some(grpc) = self.returned("grpc-status") {
            return format!("{status}, grpc-status: {grpc}");
        }
        let body: Value = serde_json::from_slice(&self.reply.body).unwrap_or_default();
        let code = body.get("code").and_then(Value::as_str).unwrap_or("without a code");
        format!("{status} {code}")
    }

    /// The value of a header that the client got.
    fn returned(&self, name: &str) -> Option<String> {
        let mut lines = self.reply.headers.iter();
        let (_, value) = lines.find(|(line, _)| line == name.as_bytes())?;
        Some(value.escape_ascii().to_string())
    }

    /// The third column: of what the upstream saw, what says whose the request is.
    pub(crate) fn at_upstream(&self, row: &Row) -> Cell {
        let Observed::Forwarded { path, headers, .. } = &self.observed else {
            return vec!["nothing".to_owned()];
        };
        let mut lines = Vec::new();
        if path != row.request.path.as_bytes() {
            lines.push(path.escape_ascii().to_string());
        }
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

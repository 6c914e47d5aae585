//! What of a response may reach the client.

use super::keys::{Place, place};
use super::{Denied, Model, Settled};
use crate::fault::{Fault, Rule};
use tiny_envoy::PeerResponse;

/// The headers whose scope is taken off.
const GUARDED: [&str; 2] = ["x-storage-key", "x-redis-key"];

/// What becomes of a key of the response; `None`: it is of another tenant.
fn without_scope<'v>(name: &str, value: &'v str, tenant: &str) -> Option<&'v str> {
    let scope = if name == "x-storage-key" {
        value.split_once('/')
    } else {
        value.strip_prefix("tenant:").and_then(|rest| rest.split_once(':'))
    };
    match scope {
        None => Some(value),
        Some((of, inner)) if of == tenant => Some(inner),
        Some(_) => None,
    }
}

impl Model {
    /// What becomes of the keys of a response, in their order; `None`: they are of another tenant.
    /// `is_bare`: the request was let go without a tenant.
    fn keys_of_response(&self, settled: &Settled, is_bare: bool) -> Option<Vec<(String, String)>> {
        let request = &settled.seen.request;
        let said = request.headers.iter().filter(|(name, _)| name == "x-answer");
        let said = said.filter_map(|(_, line)| line.split_once('='));
        let knobs = self.knobs(settled.seen.config);
        let is_tenants = matches!(place(&request.method, &request.path), Place::Module(_)) && !is_bare;
        let tenant = self.verdict(settled).tenant.filter(|_| is_tenants && knobs.guards);
        let mut keys = Vec::new();
        for (name, value) in said.clone() {
            let value = match &tenant {
                None => value,
                Some(tenant) => match without_scope(name, value, tenant) {
                    Some(inner) => inner,
                    // Where it is only reported, all of it goes on as it is.
                    None if knobs.reports => {
                        return Some(said.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
                    }
                    None => return None,
                },
            };
            keys.push((name.to_owned(), value.to_owned()));
        }
        Some(keys)
    }

    /// Judges the response that a client got to a request that was let go. Gives what it is worth counting for.
    pub fn judge_response(
        &self,
        settled: &Settled,
        is_bare: bool,
        response: &PeerResponse,
    ) -> Result<Option<&'static str>, Fault> {
        let id = settled.seen.request.id;
        let Some(keys) = self.keys_of_response(settled, is_bare) else {
            return Rule::Identity.broken(format!(
                "the response to request {id} has a key of another tenant: {:?}",
                response.headers
            ));
        };
        for name in GUARDED {
            let expected: Vec<_> = keys
                .iter()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.as_bytes())
                .collect();
            if response.headers.get_all(name) != expected {
                return Rule::Identity.broken(format!(
                    "the response to request {id} should have {keys:?}: {:?}",
                    response.headers
                ));
            }
        }
        let knobs = self.knobs(settled.seen.config);
        let said = settled
            .seen
            .request
            .headers
            .iter()
            .filter(|(name, _)| name == "x-answer");
        let is_as_said = said
            .filter_map(|(_, line)| line.split_once('='))
            .eq(keys.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let tenant = self.verdict(settled).tenant.unwrap_or_default();
        let is_foreign = |(name, value): &(String, String)| without_scope(name, value, &tenant).is_none();
        Ok(match is_as_said {
            false => Some("responses that lost a scope"),
            true if knobs.reports && knobs.guards && !is_bare && keys.iter().any(is_foreign) => {
                Some("leaks that are only reported")
            }
            true => None,
        })
    }

    /// Judges that a response was withheld.
    pub fn judge_withheld(&self, settled: &Settled, is_bare: bool, denied: &Denied) -> Result<(), Fault> {
        self.check_reply(settled, denied)?;
        match self.keys_of_response(settled, is_bare) {
            None => Ok(()),
            Some(keys) => Rule::Decision.broken(format!(
                "the response to request {} was withheld, though {keys:?} is all that it says",
                settled.seen.request.id
            )),
        }
    }
}

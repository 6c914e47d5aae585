//! The response to a request that was forwarded in a tenant's name.

use super::Forward;
use super::refused::{Manner, Refused, refused};
use super::told::Known;
use crate::config::Config;
use crate::enforce::rate::Quota;
use crate::node::Node;
use crate::request::RequestHead;
use crate::scope::{self, Edit};
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;

/// What the response to a tenant's request needs.
#[derive(Debug, Clone)]
pub struct WayBack {
    pub(crate) tenant: TenantId,
    pub(crate) known: Known,
    pub(crate) quota: Option<Quota>,
}

/// The way back of a request that was forwarded: keys lose their scope, and the caller is told of its
/// limits.
pub(crate) fn response(
    config: &Config,
    way_back: &WayBack,
    head: &RequestHead<'_>,
    grpc: bool,
    node: &impl Node,
) -> Result<Forward, Box<Refused>> {
    let WayBack { tenant, known, quota } = way_back;
    let mut forward = match scope::response::edits(&config.scope.response, head, tenant) {
        Ok(edits) => Forward {
            edits,
            ..Forward::default()
        },
        Err(denial) => {
            node.count(Counter::ResponseLeaks);
            let manner = Manner {
                grpc,
                unscoping: config.reports_only.then(Vec::new),
            };
            refused(config, denial, manner, Vec::new(), known.clone(), node)?
        }
    };
    if let Some(quota) = quota {
        let fields = quota.fields();
        let set = |(name, value): (&str, String)| Edit::Set(name.as_bytes().to_vec(), value.into_bytes());
        forward.edits.extend(fields.map(set));
    }
    Ok(forward)
}

/// The same for trailers, which come too late to withhold anything.
pub(crate) fn response_trailer_edits(
    config: &Config,
    way_back: &WayBack,
    trailers: &RequestHead<'_>,
    node: &impl Node,
) -> Vec<Edit> {
    let (edits, leaks) = scope::response::trailer_edits(&config.scope.response, trailers, &way_back.tenant);
    if leaks > 0 {
        node.add(Counter::ResponseLeaks, leaks);
    }
    edits
}

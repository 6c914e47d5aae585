//! What is read of a tenant's record, and what is kept of it. Records carry passwords of databases
//! and brokers: members that are not read are skipped by the parser, never decoded.

mod wire;

use std::collections::BTreeMap;

use crate::config::{Module, Modules};
use crate::json::Object;

use self::wire::Wire;

/// Longest text that is kept of a record, in bytes.
const MAX_TEXT: usize = 256;
/// How many modules are kept that the configuration does not know.
const MAX_OTHERS: usize = 32;

/// A tenant's record, as far as it is used.
///
/// The derived form is the one that is stored, not the Tenant Manager's JSON: equal records have
/// equal bytes. The id is not part of it, since it is compared before a record is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    #[serde(skip)]
    id: Option<String>,
    slug: Option<String>,
    status: Option<String>,
    isolation: Isolation,
    /// What `databases` lists.
    modules: BTreeMap<String, Granted>,
    /// The virtual host of modules without one of their own.
    vhost: Option<String>,
}

/// What a record says of one module.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Granted {
    schema: Option<String>,
    vhost: Option<String>,
}

/// How the tenant's data is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Isolation {
    /// A database of its own.
    Isolated,
    /// A schema in a shared database.
    Schema,
}

impl Isolation {
    /// The name that the upstream is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Schema => "schema",
        }
    }
}

impl Record {
    /// Reads the body of a 200. `None` when it is not a record: not JSON, a member of the wrong
    /// type, an unknown isolation mode, a text that is too long.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let Object(wire): Object<Wire> = serde_json::from_slice(body).ok()?;
        let isolation = match wire.isolation_mode.as_deref() {
            None | Some("" | "isolated" | "database") => Isolation::Isolated,
            Some("schema") => Isolation::Schema,
            Some(_) => return None,
        };
        let texts = [&wire.id, &wire.tenant_slug, &wire.status];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
            return None;
        }
        let mut brokers = wire.rabbitmq.unwrap_or_default();
        // One by one: collected, they would be sorted, which they are.
        let mut modules = BTreeMap::new();
        for (module, database) in wire.databases.unwrap_or_default() {
            let Some(Object(database)) = database else {
                continue;
            };
            let broker = brokers.remove(&module).flatten();
            let granted = Granted {
                schema: database.postgresql.and_then(|postgresql| postgresql.schema),
                vhost: broker.and_then(|Object(broker)| broker.vhost),
            };
            modules.insert(module, granted);
        }
        let broker = wire.messaging.and_then(|messaging| messaging.rabbitmq);
        Some(Self {
            id: wire.id,
            slug: wire.tenant_slug,
            status: wire.status,
            isolation,
            modules,
            vhost: broker.and_then(|broker| broker.vhost),
        })
    }

    /// What is kept of a record once its id has been compared: not the id, and of the modules those
    /// that the configuration knows and the first [`MAX_OTHERS`] others, which routes of the host
    /// may name. So its size is not for the Tenant Manager to choose.
    pub(super) fn limited_to(mut self, modules: &Modules) -> Self {
        self.id = None;
        let mut others = 0usize;
        self.modules.retain(|name, _| {
            if modules.knows(name) {
                return true;
            }
            others = others.saturating_add(1);
            others <= MAX_OTHERS && Module::new(name).is_some()
        });
        self
    }

    /// The `id` of the record, if it states one; of a kept one none.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The `tenantSlug`, if it is visible ASCII and so fit for a header.
    pub fn slug(&self) -> Option<&str> {
        self.slug
            .as_deref()
            .filter(|slug| !slug.is_empty() && slug.bytes().all(|b| b.is_ascii_graphic()))
    }

    /// The `status`, if it states one.
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Whether the tenant may be served: `status` is `active`, in exact case, or absent.
    pub fn is_active(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "active")
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let modules = self.modules.iter().map(|(name, granted)| {
            let texts = text(&granted.schema).saturating_add(text(&granted.vhost));
            name.len().saturating_add(texts).saturating_add(128)
        });
        modules.fold(
            text(&self.slug).saturating_add(text(&self.vhost)),
            usize::saturating_add,
        )
    }

    /// The isolation mode; `isolated` when absent.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Whether `databases` lists the module.
    pub fn grants(&self, module: &Module) -> bool {
        self.modules.contains_key(module.as_str())
    }

    /// The module's schema: only in schema mode, and only a valid name.
    pub fn schema(&self, module: &Module) -> Option<&str> {
        match self.isolation {
            Isolation::Isolated => None,
            Isolation::Schema => self.modules.get(module.as_str())?.schema.as_deref(),
        }
    }

    /// The RabbitMQ virtual host of a module that is granted: its own, else the tenant's.
    pub fn vhost(&self, module: &Module) -> Option<&str> {
        let own = &self.modules.get(module.as_str())?.vhost;
        own.as_deref().or(self.vhost.as_deref())
    }
}

/// The `status` member of a 403 body, if it is a JSON string that refuses: neither empty nor
/// `active`.
pub(super) fn refused_status(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(default)]
        status: Option<String>,
    }
    serde_json::from_slice::<Object<Refusal>>(body)
        .ok()?
        .0
        .status
        .filter(|status| !status.is_empty() && status != "active" && status.len() <= MAX_TEXT)
}

#[cfg(test)]
mod tests;

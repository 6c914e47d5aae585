//! What is read of a tenant's record, and what is kept of it. Records carry passwords of databases
//! and brokers: members that are not read are skipped by the parser, never decoded.

mod wire;

use serde_json::{Map, Value};

use crate::config::{Module, Modules};
use crate::json;

use self::wire::{is_schema, is_vhost};

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
    /// What `databases` lists, ordered by name.
    modules: Vec<(String, Granted)>,
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
        let Some(Value::Object(record)) = json::read(body, wire::RECORD) else {
            return None;
        };
        let isolation = match text(&record, "isolationMode") {
            None | Some("" | "isolated" | "database") => Isolation::Isolated,
            Some("schema") => Isolation::Schema,
            Some(_) => return None,
        };
        let texts = ["id", "tenantSlug", "status"].map(|name| text(&record, name));
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
            return None;
        }
        let [id, slug, status] = texts.map(|text| text.map(str::to_owned));
        let brokers = members(&record, "rabbitmq");
        let databases = members(&record, "databases");
        let mut modules = Vec::with_capacity(databases.map_or(0, Map::len));
        for (module, database) in databases.into_iter().flatten() {
            // Named, and `null`: not granted.
            let Value::Object(database) = database else {
                continue;
            };
            let schema = members(database, "postgresql").and_then(|postgresql| name(postgresql, "schema", is_schema));
            let broker = brokers.and_then(|brokers| members(brokers, module));
            let granted = Granted {
                schema,
                vhost: broker.and_then(|broker| name(broker, "vhost", is_vhost)),
            };
            modules.push((module.clone(), granted));
        }
        let broker = members(&record, "messaging").and_then(|messaging| members(messaging, "rabbitmq"));
        Some(Self {
            id,
            slug,
            status,
            isolation,
            modules,
            vhost: broker.and_then(|broker| name(broker, "vhost", is_vhost)),
        })
    }

    /// What is kept of a record once its id has been compared: not the id, and of the modules those
    /// that the configuration knows, and where routes of the host may name others the first
    /// [`MAX_OTHERS`] of them. So its size is not for the Tenant Manager to choose.
    pub(super) fn limited_to(mut self, modules: &Modules) -> Self {
        self.id = None;
        let mut others = 0usize;
        self.modules.retain(|(name, _)| {
            if modules.knows(name) {
                return true;
            }
            if !modules.from_route || Module::new(name).is_none() {
                return false;
            }
            others = others.saturating_add(1);
            others <= MAX_OTHERS
        });
        self.modules.shrink_to_fit();
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
        self.granted(module).is_some()
    }

    fn granted(&self, module: &Module) -> Option<&Granted> {
        let (_, granted) = self.modules.iter().find(|(name, _)| name == module.as_str())?;
        Some(granted)
    }

    /// The module's schema: only in schema mode, and only a valid name.
    pub fn schema(&self, module: &Module) -> Option<&str> {
        match self.isolation {
            Isolation::Isolated => None,
            Isolation::Schema => self.granted(module)?.schema.as_deref(),
        }
    }

    /// The RabbitMQ virtual host of a module that is granted: its own, else the tenant's.
    pub fn vhost(&self, module: &Module) -> Option<&str> {
        let own = &self.granted(module)?.vhost;
        own.as_deref().or(self.vhost.as_deref())
    }
}

/// The `status` member of a 403 body, if it is a JSON string that refuses: neither empty nor
/// `active`.
pub(super) fn refused_status(body: &[u8]) -> Option<String> {
    let body = json::read(body, wire::REFUSAL)?;
    let status = text(body.as_object()?, "status")?;
    let refuses = !status.is_empty() && status != "active" && status.len() <= MAX_TEXT;
    refuses.then(|| status.to_owned())
}

fn text<'a>(object: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    object.get(member)?.as_str()
}

fn members<'a>(object: &'a Map<String, Value>, member: &str) -> Option<&'a Map<String, Value>> {
    object.get(member)?.as_object()
}

/// A name that is accepted; any other counts as none.
fn name(object: &Map<String, Value>, member: &str, accepts: fn(&str) -> bool) -> Option<String> {
    text(object, member).filter(|name| accepts(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests;

//! What is read of a tenant's record. Records carry database passwords: members that are not
//! named here are skipped by the parser, never decoded.

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer};

use crate::config::{Module, Modules};
use crate::json::{self, Object};

/// Longest text that is kept of a record, in bytes.
const MAX_TEXT: usize = 256;
/// Longest schema name (PostgreSQL identifiers).
const MAX_SCHEMA: usize = 63;

/// A tenant's record, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    id: Option<String>,
    slug: Option<String>,
    status: Option<String>,
    isolation: Isolation,
    /// Module → its schema, if it has a usable one.
    modules: HashMap<String, Option<String>>,
}

/// How the tenant's data is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default)]
    tenant_slug: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default)]
    isolation_mode: Option<String>,
    #[serde(default)]
    databases: Option<HashMap<String, Option<Object<Database>>>>,
}

#[derive(serde::Deserialize)]
struct Database {
    #[serde(default, deserialize_with = "json::object")]
    postgresql: Option<Postgresql>,
}

#[derive(serde::Deserialize)]
struct Postgresql {
    #[serde(default, deserialize_with = "schema")]
    schema: Option<String>,
}

/// A member that is a string wherever it is present: `null` is no way to say `active`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// A schema name that matches `[A-Za-z_][A-Za-z0-9_]{0,62}`; anything else counts as none.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = serde_json::Value::deserialize(deserializer)?;
    let name = name.as_str().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid =
        name.len() <= MAX_SCHEMA && name.bytes().all(plain) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    Ok(valid.then(|| name.to_owned()))
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
        let modules = wire
            .databases
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(module, database)| {
                let Object(database) = database?;
                let schema = database.postgresql.and_then(|postgresql| postgresql.schema);
                Some((module, schema))
            })
            .collect();
        Some(Self {
            id: wire.id,
            slug: wire.tenant_slug,
            status: wire.status,
            isolation,
            modules,
        })
    }

    /// The record without the modules that nobody will ask about: what is kept of a record is
    /// bounded by the configuration, not by the Tenant Manager.
    pub(super) fn limited_to(mut self, modules: &Modules) -> Self {
        self.modules.retain(|name, _| modules.knows(name));
        self
    }

    /// The `id` of the record, if it states one.
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
            Isolation::Schema => self.modules.get(module.as_str())?.as_deref(),
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_far_as_it_is_used() {
        let record = Record::parse(
            br#"{"id":"t","tenantSlug":"s","status":"active","isolationMode":"schema","createdAt":"x",
                "databases":{"a":{"postgresql":{"host":"h","password":"hunter2","schema":"s_1"}},"b":{},"c":null}}"#,
        )
        .unwrap();
        let module = |name| Module::new(name).unwrap();
        assert_eq!(
            (record.id(), record.slug(), record.status()),
            (Some("t"), Some("s"), Some("active"))
        );
        assert_eq!(record.schema(&module("a")), Some("s_1"));
        assert_eq!(record.schema(&module("b")), None);
        assert!(record.grants(&module("b")) && !record.grants(&module("c")));
        assert!(!format!("{record:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(257));
        for body in [
            "",
            "null",
            "[]",
            "{",
            "{} x",
            r#"{"id":null}"#,
            r#"{"id":1}"#,
            r#"{"status":null}"#,
            r#"{"status":["active"]}"#,
            r#"{"isolationMode":"shared"}"#,
            r#"{"isolationMode":"Schema"}"#,
            r#"{"databases":[]}"#,
            r#"{"databases":{"a":[]}}"#,
            r#"{"databases":{"a":{"postgresql":[]}}}"#,
            r#"{"databases":{"a":1}}"#,
            r#"{"id":"a","id":"b"}"#,
            long.as_str(),
        ] {
            assert_eq!(Record::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn isolation_is_isolated_unless_it_says_schema() {
        for body in [
            "{}",
            r#"{"isolationMode":""}"#,
            r#"{"isolationMode":"isolated"}"#,
            r#"{"isolationMode":"database"}"#,
            r#"{"isolationMode":null}"#,
        ] {
            assert_eq!(
                Record::parse(body.as_bytes()).map(|record| record.isolation()),
                Some(Isolation::Isolated),
                "{body}"
            );
        }
    }

    #[test]
    fn a_schema_is_an_identifier() {
        for (name, valid) in [
            ("a", true),
            ("_a1", true),
            ("1a", false),
            ("a-b", false),
            ("", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            let body =
                format!(r#"{{"isolationMode":"schema","databases":{{"m":{{"postgresql":{{"schema":"{name}"}}}}}}}}"#);
            let record = Record::parse(body.as_bytes()).unwrap();
            assert_eq!(record.schema(&Module::new("m").unwrap()).is_some(), valid, "{name}");
        }
    }

    #[test]
    fn a_refusal_names_a_status() {
        for (body, status) in [
            (r#"{"code":"TS","error":"x","status":"suspended"}"#, Some("suspended")),
            (r#"{"status":"purged"}"#, Some("purged")),
            (r#"{"status":""}"#, None),
            (r#"{"status":"active"}"#, None),
            (r#"{"status":7}"#, None),
            ("{}", None),
            ("not json", None),
        ] {
            assert_eq!(refused_status(body.as_bytes()).as_deref(), status, "{body}");
        }
    }
}

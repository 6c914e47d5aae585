//! The JSON of a record, as far as it is read. What is not named here is skipped by the parser,
//! and so is what stands where a name is expected but is none.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::{self, Object};

/// Longest schema name (PostgreSQL identifiers).
const MAX_SCHEMA: usize = 63;
/// Longest name of a virtual host (an AMQP short string).
const MAX_VHOST: usize = 255;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    #[serde(default, deserialize_with = "text")]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) tenant_slug: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) isolation_mode: Option<String>,
    #[serde(default)]
    pub(super) databases: Option<BTreeMap<String, Option<Object<Database>>>>,
    #[serde(default)]
    pub(super) rabbitmq: Option<BTreeMap<String, Option<Object<RabbitMq>>>>,
    #[serde(default, deserialize_with = "json::object")]
    pub(super) messaging: Option<Messaging>,
}

#[derive(serde::Deserialize)]
pub(super) struct Database {
    #[serde(default, deserialize_with = "json::object")]
    pub(super) postgresql: Option<Postgresql>,
}

#[derive(serde::Deserialize)]
pub(super) struct Postgresql {
    #[serde(default, deserialize_with = "schema")]
    pub(super) schema: Option<String>,
}

/// Older Tenant Managers: one virtual host for the whole tenant.
#[derive(serde::Deserialize)]
pub(super) struct Messaging {
    #[serde(default, deserialize_with = "json::object")]
    pub(super) rabbitmq: Option<RabbitMq>,
}

#[derive(serde::Deserialize)]
pub(super) struct RabbitMq {
    #[serde(default, deserialize_with = "vhost")]
    pub(super) vhost: Option<String>,
}

/// A member that is a string wherever it is present: `null` is no way to say `active`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// A schema name that matches `[A-Za-z_][A-Za-z0-9_]{0,62}`; anything else counts as none.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(NameWhere(|name| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        name.len() <= MAX_SCHEMA && name.bytes().all(plain) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    }))
}

/// The name of a virtual host, 1 to 255 bytes of visible ASCII; anything else counts as none.
fn vhost<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(NameWhere(|name| {
        (1..=MAX_VHOST).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    }))
}

/// Reads a string that is accepted. A value of any other kind is skipped: a credential may stand
/// in it.
struct NameWhere(fn(&str) -> bool);

impl<'de> Visitor<'de> for NameWhere {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name).then(|| name.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(elements).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(members).map(|_| None)
    }
}

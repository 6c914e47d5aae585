//! What an answer of the Tenant Manager says, read a second time.

use crate::json::{Json, Text, decoded, read};

/// Longest text that is taken from an answer, in bytes.
const MAX_TEXT: usize = 256;

/// What a record says of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Whom it is about, if it says so.
    pub id: Option<String>,
    /// `tenantSlug`, fit for a header.
    pub slug: Option<String>,
    /// `status`.
    pub status: Option<String>,
    /// Whether it is in schema mode.
    pub in_schema: bool,
    /// Whether the module is granted.
    pub grants: bool,
    /// The module's schema, if it has a good one.
    pub schema: Option<String>,
    /// The virtual host that is the module's.
    pub vhost: Option<String>,
}

/// Whether it can be said at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<T> {
    /// It says this.
    This(T),
    /// It is no such answer.
    Nothing,
    /// This reading does not go so deep.
    Unsure,
}

/// The record of a 200, as far as it concerns a module.
#[must_use]
pub fn of_ok(body: &[u8], module: &str) -> Said<Record> {
    said(body, |document| record(document, module))
}

/// The status in the body of a 403 that refuses.
#[must_use]
pub fn of_forbidden(body: &[u8]) -> Said<String> {
    said(body, |document| {
        let members = object(document)?;
        let status = optional_text(only(members, "status")?)??;
        (!status.is_empty() && status != "active" && status.len() <= MAX_TEXT).then_some(status)
    })
}

fn said<T>(body: &[u8], read_of: impl Fn(&Json<'_>) -> Option<T>) -> Said<T> {
    match read(body) {
        Text::Document(document) => read_of(&document).map_or(Said::Nothing, Said::This),
        Text::Not => Said::Nothing,
        Text::Deep => Said::Unsure,
    }
}

fn record(document: &Json<'_>, module: &str) -> Option<Record> {
    let members = object(document)?;
    if members.iter().any(|(name, _)| decoded(name).is_none()) {
        return None;
    }
    let id = text(only(members, "id")?)?;
    let status = text(only(members, "status")?)?;
    let slug = optional_text(only(members, "tenantSlug")?)?;
    if [&id, &status, &slug]
        .into_iter()
        .flatten()
        .any(|text| text.len() > MAX_TEXT)
    {
        return None;
    }
    let in_schema = match optional_text(only(members, "isolationMode")?)?.as_deref() {
        None | Some("" | "isolated" | "database") => false,
        Some("schema") => true,
        Some(_) => return None,
    };
    let databases = all(only(members, "databases")?)?;
    let mut granted = None;
    let mut schema = None;
    for (name, database) in databases {
        let inside = known(database, &["postgresql"])?;
        let found = match inside.first().copied().flatten() {
            Some(postgresql) => named(postgresql, "schema", is_schema)?,
            None => None,
        };
        // Of two of one name the last counts.
        if decoded(name)? == module {
            granted = Some(*database != Json::Null);
            schema = found;
        }
    }
    let mut own = None;
    for (name, broker) in all(only(members, "rabbitmq")?)? {
        let found = named(broker, "vhost", is_vhost)?;
        if decoded(name)? == module {
            own = found;
        }
    }
    let tenants = match only(members, "messaging")? {
        None => None,
        Some(messaging) => match known(messaging, &["rabbitmq"])?.first().copied().flatten() {
            None => None,
            Some(broker) => named(broker, "vhost", is_vhost)?,
        },
    };
    let grants = granted == Some(true);
    Some(Record {
        id,
        slug: slug.filter(|slug| !slug.is_empty() && slug.chars().all(|c| c.is_ascii_graphic())),
        status,
        in_schema,
        grants,
        schema: schema.filter(|_| grants && in_schema),
        vhost: own.or(tenants).filter(|_| grants),
    })
}

type Members<'j, 'a> = &'j [(&'a [u8], Json<'a>)];

fn object<'j, 'a>(value: &'j Json<'a>) -> Option<Members<'j, 'a>> {
    match value {
        Json::Object(members) => Some(members),
        _ => None,
    }
}

/// The member of that name, unless it stands there twice (`None`).
#[allow(clippy::option_option, reason = "not there, and there twice, are two things")]
fn only<'j, 'a>(members: Members<'j, 'a>, name: &str) -> Option<Option<&'j Json<'a>>> {
    let mut found = None;
    for (written, value) in members {
        if decoded(written)? == name && found.replace(value).is_some() {
            return None;
        }
    }
    Some(found)
}

/// These members of an object that may also be absent or `null`.
fn known<'j, 'a>(value: &'j Json<'a>, names: &[&str]) -> Option<Vec<Option<&'j Json<'a>>>> {
    match value {
        Json::Null => Some(Vec::new()),
        Json::Object(members) => names.iter().map(|name| only(members, name)).collect(),
        _ => None,
    }
}

/// Every member of an object that may also be absent or `null`.
fn all<'j, 'a>(value: Option<&'j Json<'a>>) -> Option<Members<'j, 'a>> {
    match value {
        None | Some(Json::Null) => Some(&[]),
        Some(value) => object(value),
    }
}

#[allow(clippy::option_option, reason = "absent, and no such thing, are two things")]
fn text(value: Option<&Json<'_>>) -> Option<Option<String>> {
    match value {
        None => Some(None),
        Some(Json::Text(written)) => decoded(written).map(Some),
        Some(_) => None,
    }
}

#[allow(clippy::option_option, reason = "absent, and no such thing, are two things")]
fn optional_text(value: Option<&Json<'_>>) -> Option<Option<String>> {
    text(value.filter(|value| **value != Json::Null))
}

/// A name in an object; what is none counts as absent.
#[allow(clippy::option_option, reason = "absent, and no such thing, are two things")]
fn named(value: &Json<'_>, name: &str, accepts: fn(&str) -> bool) -> Option<Option<String>> {
    match known(value, &[name])?.first().copied().flatten() {
        Some(Json::Text(written)) => Some(Some(decoded(written)?).filter(|text| accepts(text))),
        _ => Some(None),
    }
}

fn is_schema(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.len() <= 63 && name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn is_vhost(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

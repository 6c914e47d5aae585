//! The JSON of a record, as far as it is read.

use crate::json::Shape;

/// Longest schema name (PostgreSQL identifiers).
const MAX_SCHEMA: usize = 63;
/// Longest name of a virtual host (an AMQP short string).
const MAX_VHOST: usize = 255;

/// The body of a 200. `id` and `status` are strings wherever they are present: `null` is no way to say
/// `active`.
pub(super) const RECORD: Shape = Shape::Object(&[
    ("id", Shape::Text),
    ("tenantSlug", Shape::OptionalText),
    ("status", Shape::Text),
    ("isolationMode", Shape::OptionalText),
    ("databases", Shape::Members(&DATABASE)),
    ("rabbitmq", Shape::Members(&BROKER)),
    // Older Tenant Managers: one virtual host for the whole tenant.
    ("messaging", Shape::Object(&[("rabbitmq", BROKER)])),
]);

const DATABASE: Shape = Shape::Object(&[("postgresql", Shape::Object(&[("schema", Shape::TextOrSkipped)]))]);

const BROKER: Shape = Shape::Object(&[("vhost", Shape::TextOrSkipped)]);

/// The body of a 403.
pub(super) const REFUSAL: Shape = Shape::Object(&[("status", Shape::OptionalText)]);

/// Whether a schema name matches `[A-Za-z_][A-Za-z0-9_]{0,62}`.
pub(super) fn is_schema(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.len() <= MAX_SCHEMA && name.bytes().all(plain) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// Whether it is the name of a virtual host: 1 to 255 bytes of visible ASCII.
pub(super) fn is_vhost(name: &str) -> bool {
    (1..=MAX_VHOST).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

//! Stage 3: the tenant. It comes from a claim of a verified token and from nowhere else.
//!
//! Rules in the order they are applied:
//!
//! 1. The claim (`tenant_id.claim`, exact case, top level) is a non-empty JSON string, else 401
//!    `TENANT_ID_REQUIRED`.
//! 2. It matches `^[a-zA-Z0-9][a-zA-Z0-9_-]*$` untrimmed and has 1 to 256 bytes, else 401
//!    `TENANT_ID_INVALID`.
//! 3. With `tenant_id.fold_uuid` a UUID, dashed (8-4-4-4-12) or bare, becomes 32 lower-case
//!    hexadecimal digits. Every other id stays as it is.
//! 4. The issuer may name this tenant, else 401 `TOKEN_INVALID`.

use std::fmt;
use std::rc::Rc;

use crate::authn::{Refusal, Verified};
use crate::denial::Denial;

/// Longest tenant id, in bytes.
const MAX_BYTES: usize = 256;

/// `tenant_id` of the configuration.
#[derive(Debug, Clone)]
pub struct TenantIdRules {
    /// The claim that names the tenant. Default `tenantId`.
    pub claim: String,
    /// Whether the two spellings of a UUID are one tenant. Default false.
    pub fold_uuid: bool,
}

/// The id of a tenant, well-formed and folded as configured. Safe in a path segment, a header
/// value and a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Rc<str>);

impl TenantId {
    /// Checks the grammar and folds where asked; `None` when the grammar is violated.
    pub fn parse(text: &str, fold_uuid: bool) -> Option<Self> {
        if !is_well_formed(text) {
            return None;
        }
        let folded = if fold_uuid { folded_uuid(text) } else { None };
        Some(Self(folded.as_deref().unwrap_or(text).into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

/// Applies the rules of this stage.
///
/// # Errors
///
/// [`Denial::TenantClaimMissing`], [`Denial::TenantIdInvalid`] and [`Denial::TokenInvalid`].
pub fn tenant_of(rules: &TenantIdRules, verified: &Verified<'_>) -> Result<TenantId, Denial> {
    let text = match verified.claim(&rules.claim) {
        Some(text) if !text.is_empty() => text,
        _ => return Err(Denial::TenantClaimMissing),
    };
    let tenant = TenantId::parse(text, rules.fold_uuid).ok_or(Denial::TenantIdInvalid)?;
    if verified.issuer().is_some_and(|issuer| !issuer.may_name(&tenant)) {
        return Err(Denial::TokenInvalid(Refusal::TenantOfOtherIssuer));
    }
    Ok(tenant)
}

/// Whether `text` matches `^[a-zA-Z0-9][a-zA-Z0-9_-]*$` and has at most 256 bytes.
pub fn is_well_formed(text: &str) -> bool {
    text.len() <= MAX_BYTES
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The 32 digits of a UUID in dashed or bare form; `None` for every other text. Braces, `urn:`
/// and other decorations that some libraries accept are not UUIDs here.
fn folded_uuid(text: &str) -> Option<String> {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits: String = text.split('-').collect();
    let shape = lengths == [32] || lengths == [8, 4, 4, 4, 12];
    (shape && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_well_formed_or_refused() {
        let longest = "a".repeat(256);
        for good in [
            "t",
            "tenant-123_abc",
            "0",
            "org_01KHVKQQP6D2N4RDJK0ADEKQX1",
            longest.as_str(),
        ] {
            assert!(TenantId::parse(good, false).is_some(), "{good}");
        }
        let too_long = "a".repeat(257);
        for bad in [
            "",
            "-t",
            "_t",
            "a/b",
            "a b",
            " a",
            "a.b",
            "a:b",
            "a@b",
            "tenänt",
            "a\0",
            "a\n",
            too_long.as_str(),
        ] {
            assert!(TenantId::parse(bad, false).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn only_uuids_fold_and_only_when_asked() {
        let folded = "550e8400e29b41d4a716446655440000";
        for (text, expected) in [
            ("550e8400-e29b-41d4-a716-446655440000", folded),
            ("550E8400-E29B-41D4-A716-446655440000", folded),
            ("550E8400E29B41D4A716446655440000", folded),
            (folded, folded),
            ("Tenant-ABC_def", "Tenant-ABC_def"),
            (
                "550e8400e29b-41d4-a716-446655440000",
                "550e8400e29b-41d4-a716-446655440000",
            ),
            (
                "a550e8400-e29b-41d4-a716-446655440000b",
                "a550e8400-e29b-41d4-a716-446655440000b",
            ),
        ] {
            assert_eq!(TenantId::parse(text, true).unwrap().as_str(), expected);
            assert_eq!(TenantId::parse(text, false).unwrap().as_str(), text);
        }
    }
}

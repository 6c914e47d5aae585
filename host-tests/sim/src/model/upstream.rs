//! What of a request may reach the upstream.

use tiny_envoy::{HeaderMap, PeerRequest};

use super::keys::{KEY_HEADERS, scoped, scoped_path};
use super::passes::Pass;
use crate::fault::{Fault, Rule};
use crate::script::Request;

/// Headers by which some servers exchange path or method.
const OVERRIDES: [&str; 5] = [
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Those of them that exchange the path.
const PATH_OVERRIDES: usize = 2;

/// How CGI-style servers read a name.
fn folded(name: &[u8]) -> String {
    let mut folded = String::new();
    for byte in name {
        let byte = byte.to_ascii_lowercase();
        if byte.is_ascii_alphanumeric() {
            folded.push(char::from(byte));
        } else if !folded.ends_with('-') {
            folded.push('-');
        }
    }
    folded
}

fn is_owned(folded: &str) -> bool {
    folded.starts_with("x-tenant-") || folded == "x-tenant"
}

/// Whether a field line of this name may not stay as it came: in the head of a tenant's request, or where there
/// is no tenant.
pub(super) fn is_taken_out(name: &str, is_tenants: bool) -> bool {
    let folded = folded(name.as_bytes());
    let is_key = KEY_HEADERS.contains(&folded.as_str());
    let is_override = OVERRIDES.contains(&name.to_ascii_lowercase().as_str());
    is_owned(&folded) || is_override || (is_key && (!is_tenants || folded != name))
}

/// What the head of a request in a tenant's name must look like.
pub(super) fn check_head(
    request: &Request,
    (tenant, pass): (&str, &Pass),
    sent: &PeerRequest,
    owned: &[(&str, String)],
) -> Result<(), Fault> {
    let is_second = *pass != Pass::First;
    let headers = &sent.headers;
    for (name, value) in owned {
        let values = headers.get_all(name);
        if values != [value.as_bytes()] {
            return Rule::Identity.broken(format!(
                "request {} of `{tenant}` reaches the upstream with {name}: {}, not {value}",
                request.id,
                shown(&values)
            ));
        }
    }
    for (name, value) in headers.iter() {
        let folded = folded(name);
        let text = String::from_utf8_lossy(name);
        if is_owned(&folded) && !owned.iter().any(|(known, _)| known.as_bytes() == name) {
            return Rule::Identity.broken(format!(
                "request {} of `{tenant}` reaches the upstream with {text}: {}, which it did not earn",
                request.id,
                value.escape_ascii()
            ));
        }
        if KEY_HEADERS.contains(&folded.as_str()) && folded.as_bytes() != name {
            return Rule::Identity.broken(format!(
                "request {}: {text} looks like a key header and stays",
                request.id
            ));
        }
        if OVERRIDES
            .iter()
            .take(PATH_OVERRIDES)
            .any(|other| other.as_bytes() == name)
        {
            return Rule::Identity.broken(format!(
                "request {}: {text} may exchange the path and stays",
                request.id
            ));
        }
    }
    for name in KEY_HEADERS {
        let given = request.headers.iter().filter(|(other, _)| other == name);
        let becomes = |value: &String| {
            if is_second {
                Some(value.clone())
            } else {
                scoped(name, value, tenant)
            }
        };
        let expected: Vec<_> = given.map(|(_, value)| becomes(value)).collect();
        let sent: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| Some(String::from_utf8_lossy(value).into_owned()))
            .collect();
        if sent != expected {
            return Rule::Identity.broken(format!(
                "request {} of `{tenant}`: {name} is {sent:?}, in its scope it is {expected:?}",
                request.id
            ));
        }
    }
    let path = if is_second {
        request.path.clone()
    } else {
        scoped_path(&request.path, tenant)
    };
    if sent.path() != path || sent.method() != request.method {
        return Rule::Identity.broken(format!(
            "request {} of `{tenant}`: {} {} becomes {} {}, not {path}",
            request.id,
            request.method,
            request.path,
            sent.method(),
            sent.path()
        ));
    }
    check_plain(request, headers)
}

/// What the head of a request without a tenant must look like: one to a public path, or one that would be denied.
pub(super) fn check_bare(request: &Request, sent: &PeerRequest) -> Result<(), Fault> {
    if sent.path() != request.path || sent.method() != request.method {
        return Rule::Identity.broken(format!(
            "request {} has no tenant, and {} {} becomes {} {}",
            request.id,
            request.method,
            request.path,
            sent.method(),
            sent.path()
        ));
    }
    for (name, value) in sent.headers.iter() {
        check_without_tenant(request, "the head", name, value)?;
    }
    check_plain(request, &sent.headers)
}

/// What of a request has no meaning to the filter stays as it is.
fn check_plain(request: &Request, sent: &HeaderMap) -> Result<(), Fault> {
    let plain = request.headers.iter().filter(|(name, _)| name == "x-plain");
    let expected: Vec<_> = plain.map(|(_, value)| value.as_bytes()).collect();
    if sent.get_all("x-plain") == expected {
        Ok(())
    } else {
        Rule::Decision.broken(format!("request {}: x-plain did not stay as it was", request.id))
    }
}

/// What the trailers of any request must look like.
pub(super) fn check_trailers(request: &Request, trailers: &HeaderMap) -> Result<(), Fault> {
    for (name, value) in trailers.iter() {
        check_without_tenant(request, "the trailers", name, value)?;
    }
    Ok(())
}

fn check_without_tenant(request: &Request, place: &str, name: &[u8], value: &[u8]) -> Result<(), Fault> {
    let folded = folded(name);
    let is_override = OVERRIDES.iter().any(|other| other.as_bytes() == name);
    if is_owned(&folded) || KEY_HEADERS.contains(&folded.as_str()) || is_override {
        return Rule::Identity.broken(format!(
            "request {} reaches the upstream with {}: {} in {place}, which no tenant has earned",
            request.id,
            String::from_utf8_lossy(name),
            value.escape_ascii()
        ));
    }
    Ok(())
}

fn shown(values: &[&[u8]]) -> String {
    let values: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
    format!("{values:?}")
}

//! Stage 1: the request target. Is it hazardous, is it public, which module does it belong to?
//!
//! Rules in the order they are applied:
//!
//! 1. `CONNECT` is refused unless `paths.connect: allow`.
//! 2. A hazardous target ([`hazard`]) is refused, or protected with `paths.hazardous: protect`.
//!    It is never public.
//! 3. `CONNECT`, `TRACE`, and a request that asks to change protocol, are never public.
//! 4. A path under a public prefix is public ([`Prefix::covers_public`]): compared byte for
//!    byte, and nothing that would need decoding, case folding or normalising is public.
//! 5. Everything else is protected, `OPTIONS *` and a missing or empty path included.
//! 6. A protected request gets a module: the first route whose prefix covers the path, else the
//!    default, else it is refused (404). Where a lenient server may take the path for another
//!    module (`/V1/transactions`, `/v1//transactions`, `/v1/transactions;x`, anything hazardous),
//!    the tenant must have been granted that one too.
//!
//! Where the host has chosen a route whose metadata names a module, that is the module, and nothing else
//! is read into the path; a name that cannot be one is refused (404).
//!
//! Only the path up to the first `?` is looked at, except for `#` and control bytes, which are
//! hazardous anywhere in the target. Targets are bytes.

use std::borrow::Cow;

use crate::config::{Module, Modules, Paths};
use crate::denial::Denial;
use crate::node::Node;
use crate::request::RequestHead;

/// How often an escape may hide another one before the target is hazardous by that alone.
const MAX_ENCODINGS: usize = 8;

/// What stage 1 makes of a request that it does not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Passes without authentication, sanitized and unscoped.
    Public,
    /// Needs a token, and a tenant that has been granted the destination.
    Protected(Destination),
}

/// Where a protected path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The module of the path as it is written.
    pub module: Module,
    /// The other modules that a lenient server may take the path for. The tenant must have been
    /// granted these too, or the spelling of a path would evade a grant.
    pub readings: Vec<Module>,
}

/// Applies the rules of this stage.
///
/// # Errors
///
/// [`Denial::PathRejected`] and [`Denial::RouteNotFound`].
pub fn route(paths: &Paths, modules: &Modules, head: &RequestHead<'_>, node: &impl Node) -> Result<Route, Denial> {
    let method = head.method();
    let target = head.target().unwrap_or_default();
    if method.eq_ignore_ascii_case(b"CONNECT") && !paths.allow_connect {
        return Err(Denial::PathRejected(Rejection::Connect));
    }
    let hazard = hazard(target);
    if let Some(hazard) = hazard
        && paths.reject_hazardous
    {
        return Err(Denial::PathRejected(Rejection::Hazard(hazard)));
    }
    let path = path_of(target);
    if hazard.is_none() && may_be_public(head) && is_public(paths, method, path) {
        return Ok(Route::Public);
    }
    if modules.from_route
        && let Some(name) = node.route_module()
    {
        let name = std::str::from_utf8(&name).ok();
        let module = name.and_then(Module::new).ok_or(Denial::RouteNotFound)?;
        return Ok(Route::Protected(Destination {
            module,
            readings: Vec::new(),
        }));
    }
    let module = modules.of(path).ok_or(Denial::RouteNotFound)?.clone();
    let mut readings: Vec<Module> = Vec::new();
    let mut add = |reading: &Module| {
        if *reading != module && !readings.contains(reading) {
            readings.push(reading.clone());
        }
    };
    if modules.routes.is_empty() {
        // There is one module only, however a path is read.
    } else if hazard.is_some() {
        // Where a hazardous path leads is anybody's guess.
        modules.all().for_each(&mut add);
    } else {
        modules.of_lenient(path).for_each(&mut add);
    }
    Ok(Route::Protected(Destination { module, readings }))
}

fn may_be_public(head: &RequestHead<'_>) -> bool {
    let method = head.method();
    let is_special = method.eq_ignore_ascii_case(b"CONNECT") || method.eq_ignore_ascii_case(b"TRACE");
    !is_special && !head.is_upgrade()
}

fn is_public(paths: &Paths, method: &[u8], path: &[u8]) -> bool {
    paths.public.iter().any(|rule| {
        let method_fits = rule
            .methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|m| m.as_bytes() == method));
        method_fits && rule.prefix.covers_public(path)
    })
}

impl Modules {
    /// The module of a path as it is written: of the first route that covers it, else the default.
    fn of(&self, path: &[u8]) -> Option<&Module> {
        let route = self.routes.iter().find(|route| route.prefix.covers(path));
        route.map(|route| &route.module).or(self.default.as_ref())
    }

    /// The modules besides [`Modules::of`] that some server may take a path for.
    ///
    /// A route covers the [`lenient`] reading wherever it covers any other one, since nothing in a
    /// prefix is ever decoded, cut or collapsed; so the route of the path as it is written covers
    /// every reading, and what may come before it is a route in front of it, not only the first:
    /// servers differ in how much they are lenient.
    fn of_lenient(&self, path: &[u8]) -> impl Iterator<Item = &Module> {
        self.routes
            .iter()
            .take_while(move |route| !route.prefix.covers(path))
            .filter(move |route| route.prefix.may_cover(path))
            .map(|route| &route.module)
    }
}

/// What a lenient server may read a path as. To some, one that begins with `//` is a network-path
/// reference (RFC 3986 §4.2), whose first segment is a host and no part of the path; as it is written, or once
/// it is read leniently: what looks like the end of a path among the bytes of a host ends nothing.
fn readings(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let read = lenient(path);
    let behind_hosts = path.starts_with(b"//").then(|| {
        let written = lenient(behind_first_segment(path));
        [behind_first_segment(&read).to_vec(), written]
    });
    std::iter::once(read).chain(behind_hosts.into_iter().flatten())
}

/// What follows the first segment that is not empty, from its `/` on.
fn behind_first_segment(path: &[u8]) -> &[u8] {
    let reference = path
        .iter()
        .position(|b| *b != b'/')
        .and_then(|start| path.get(start..))
        .unwrap_or_default();
    let end = reference.iter().position(|b| *b == b'/');
    end.and_then(|end| reference.get(end..)).unwrap_or_default()
}

/// The path as a lenient server may read it: decoded, cut at a decoded `?` or `#`, parameters
/// cut off, empty segments dropped, spaces trimmed. Case is left to the comparison.
///
/// Servers differ in what they cut first. A `?` or `#` among the parameters of a segment ends the
/// path for one and goes with the parameters for another: here it goes, which leaves the longer
/// path, and whatever covers the shorter one covers that too.
fn lenient(path: &[u8]) -> Vec<u8> {
    let mut decoded = Cow::Borrowed(path);
    for _ in 0..MAX_ENCODINGS {
        match decode_once(&decoded) {
            Some(next) => decoded = Cow::Owned(next),
            None => break,
        }
    }
    let mut read = Vec::with_capacity(decoded.len());
    for segment in decoded.split(|b| *b == b'/') {
        let end = segment.iter().position(|b| matches!(b, b';' | b'?' | b'#'));
        let (name, rest) = segment.split_at(end.unwrap_or(segment.len()));
        let name = name.trim_ascii();
        if !name.is_empty() {
            read.push(b'/');
            read.extend_from_slice(name);
        }
        if rest.first().is_some_and(|b| *b != b';') {
            break;
        }
    }
    read
}

/// The path of a target: up to the first `?`; of an absolute-form target (RFC 9112 §3.2.2) what
/// follows the authority. Any other form is left as it stands: it covers no prefix.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    if path.starts_with(b"/") {
        return path;
    }
    let Some(colon) = path.iter().position(|b| *b == b':') else {
        return path;
    };
    let (scheme, rest) = path.split_at(colon);
    let Some(after) = rest.strip_prefix(b"://") else {
        return path;
    };
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let (authority, path_after) = after.split_at(after.iter().position(|b| *b == b'/').unwrap_or(after.len()));
    let is_authority = !authority.is_empty()
        && authority
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~:[]".contains(b));
    if is_http && is_authority { path_after } else { path }
}

/// A segment prefix such as `/health` or `/v1/accounts`: it covers itself and what continues it
/// with `/`, never `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// One or more non-empty segments of unreserved characters (RFC 3986 §2.3), each after a
    /// `/`, none of them made of dots only. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?;
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        segments
            .split('/')
            .all(|segment| segment.bytes().all(unreserved) && segment.bytes().any(|b| b != b'.'))
            .then(|| Self(text.to_owned()))
    }

    /// What follows the prefix in `path`; `None` when the prefix does not cover it.
    pub(crate) fn rest<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path.strip_prefix(self.0.as_bytes())
            .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// The prefix as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether some server may take `path` for one that the prefix covers.
    pub(crate) fn may_cover(&self, path: &[u8]) -> bool {
        readings(path).any(|read| self.covers_in_any_case(&read))
    }

    /// Whether `path` equals the prefix or continues it with `/`, byte for byte.
    pub fn covers(&self, path: &[u8]) -> bool {
        self.rest(path).is_some()
    }

    /// Whether one of the two prefixes covers the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other.0.as_bytes()) || other.covers(self.0.as_bytes())
    }

    /// [`Prefix::covers`] without regard to case.
    fn covers_in_any_case(&self, path: &[u8]) -> bool {
        path.split_at_checked(self.0.len()).is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(self.0.as_bytes()) && (rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// Whether `path` is public under this prefix: covered, and the rest holds no `%`, no `;`,
    /// no empty segment (so no trailing `/` either), no segment of dots only, and nothing but
    /// `pchar` (RFC 3986 §3.3).
    pub fn covers_public(&self, path: &[u8]) -> bool {
        let plain = |segment: &[u8]| segment.iter().any(|b| *b != b'.') && segment.iter().all(|b| is_plain_pchar(*b));
        match self.rest(path).map(|rest| rest.strip_prefix(b"/")) {
            None => false,
            Some(None) => true,
            Some(Some(segments)) => segments.split(|b| *b == b'/').all(plain),
        }
    }
}

/// `pchar` without `pct-encoded` and without `;`.
fn is_plain_pchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b)
}

/// Why a target is hazardous: two parsers could disagree about where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hazard {
    /// A control byte, raw or encoded.
    Control,
    /// A literal `#`.
    Fragment,
    /// A literal or encoded `\`.
    Backslash,
    /// An encoded `/`.
    EncodedSlash,
    /// A `.` or `..` segment in any encoding, also followed by `;` or among spaces.
    DotSegment,
    /// A `%` that two hexadecimal digits do not follow.
    MalformedEscape,
    /// An overlong UTF-8 sequence, raw or encoded.
    OverlongUtf8,
    /// Escapes inside escapes beyond any use.
    TooManyEncodings,
}

impl Hazard {
    /// The hazard as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control byte",
            Self::Fragment => "fragment",
            Self::Backslash => "backslash",
            Self::EncodedSlash => "encoded slash",
            Self::DotSegment => "dot segment",
            Self::MalformedEscape => "malformed escape",
            Self::OverlongUtf8 => "overlong UTF-8",
            Self::TooManyEncodings => "too many encodings",
        }
    }
}

/// Why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The method is `CONNECT`.
    Connect,
    /// The target is hazardous.
    Hazard(Hazard),
}

impl Rejection {
    /// The reason as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Hazard(hazard) => hazard.name(),
        }
    }
}

/// The first hazard of a request target, `None` when there is none.
pub fn hazard(target: &[u8]) -> Option<Hazard> {
    if target.iter().any(u8::is_ascii_control) {
        return Some(Hazard::Control);
    }
    if target.contains(&b'#') {
        return Some(Hazard::Fragment);
    }
    path_hazard(target.split(|b| *b == b'?').next().unwrap_or_default())
}

/// The first hazard of a path, without a query. Also what storage keys are held to.
pub fn path_hazard(path: &[u8]) -> Option<Hazard> {
    if path.contains(&b'#') {
        return Some(Hazard::Fragment);
    }
    if !escapes_are_whole(path) {
        return Some(Hazard::MalformedEscape);
    }
    let mut text = Cow::Borrowed(path);
    for _ in 0..MAX_ENCODINGS {
        if let Some(hazard) = literal_hazard(&text) {
            return Some(hazard);
        }
        let decoded = decode_once(&text)?;
        // A slash that decoding brings to light was hidden from whoever matched the raw path.
        if count(&decoded, b'/') > count(&text, b'/') {
            return Some(Hazard::EncodedSlash);
        }
        text = Cow::Owned(decoded);
    }
    Some(Hazard::TooManyEncodings)
}

/// Hazards that need no decoding.
fn literal_hazard(path: &[u8]) -> Option<Hazard> {
    if path.iter().any(u8::is_ascii_control) {
        return Some(Hazard::Control);
    }
    if path.contains(&b'\\') {
        return Some(Hazard::Backslash);
    }
    if path.split(|b| *b == b'/').any(is_dot_segment) {
        return Some(Hazard::DotSegment);
    }
    has_overlong(path).then_some(Hazard::OverlongUtf8)
}

/// `.` or `..`, alone or before something that a server may cut off (`;` and, once decoded,
/// `?` and `#`), also among spaces, which some server trims.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment
        .split(|b| matches!(b, b';' | b'?' | b'#'))
        .next()
        .unwrap_or_default()
        .trim_ascii();
    name == b"." || name == b".."
}

/// Lead bytes 0xC0 and 0xC1 are always overlong (RFC 3629 §3); the others when the next byte
/// says that a shorter form exists, five- and six-byte forms of old decoders included.
fn has_overlong(path: &[u8]) -> bool {
    path.iter().any(|b| matches!(b, 0xC0 | 0xC1))
        || path.windows(2).any(|pair| {
            matches!(
                pair,
                [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F] | [0xF8, 0x80..=0x87] | [0xFC, 0x80..=0x83]
            )
        })
}

fn escapes_are_whole(path: &[u8]) -> bool {
    path.split(|b| *b == b'%')
        .skip(1)
        .all(|after| matches!(after, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// Decodes every whole escape once; `None` when there is none left.
fn decode_once(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts = path.split(|b| *b == b'%');
    let mut decoded = parts.next().unwrap_or_default().to_vec();
    let mut changed = false;
    for part in parts {
        match part {
            [high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex_digit(*high).wrapping_shl(4) | hex_digit(*low));
                decoded.extend_from_slice(rest);
                changed = true;
            }
            // A lone `%` that an earlier round decoded from `%25`: it stands for itself.
            _ => {
                decoded.push(b'%');
                decoded.extend_from_slice(part);
            }
        }
    }
    changed.then_some(decoded)
}

/// The value of a hexadecimal digit; the caller has checked that it is one.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit.wrapping_sub(b'0'),
        b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

fn count(text: &[u8], byte: u8) -> usize {
    text.iter().filter(|b| **b == byte).count()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

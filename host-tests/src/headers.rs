//! Envoy's header map: an ordered multimap of bytes.

use std::fmt;

/// Headers of which Envoy keeps exactly one entry, in requests and in responses. Further field lines, and
/// further values that a plugin adds, are appended to it with a comma.
///
/// All of these were asked of a full build: those of Envoy's own table and those that its extensions
/// register.
const INLINE: &[&str] = &[
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    ":status",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-message",
    "grpc-status",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-envoy-attempt-count",
    "x-request-id",
];

/// … in requests only.
const INLINE_IN_REQUESTS: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "x-client-trace-id",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// … in responses only.
const INLINE_IN_RESPONSES: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "proxy-status",
    "server",
    "vary",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
];

/// An ordered multimap from lower-case names to values, both bytes.
///
/// Pseudo headers stand before all others. `host` is another name for `:authority`. Repeated
/// field lines stay separate entries, except those of inline headers, which are joined.
///
/// Which headers are inline depends on the message. A map is that of a request until it has come to
/// Envoy as a response.
#[derive(Clone, Default)]
pub struct HeaderMap {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    is_response: bool,
}

/// What is in a map counts, not which message it was made for.
impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for HeaderMap {}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_list()
            .entries(self.iter().map(|(name, value)| (text(name), text(value))))
            .finish()
    }
}

impl HeaderMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field line. A second one of an inline header is joined to the first by a comma.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = canonical(name.as_ref());
        let value = value.as_ref();
        if self.is_inline(&name)
            && let Some((_, present)) = self.fields.iter_mut().find(|(n, _)| *n == name)
        {
            present.push(b',');
            present.extend_from_slice(value);
            return;
        }
        let at = if name.starts_with(b":") {
            self.fields.iter().take_while(|(n, _)| n.starts_with(b":")).count()
        } else {
            self.fields.len()
        };
        self.fields.insert(at, (name, value.to_vec()));
    }

    /// The same lines as a response's.
    pub(crate) fn into_response(self) -> Self {
        let mut map = Self {
            fields: Vec::new(),
            is_response: true,
        };
        for (name, value) in self.fields {
            map.add(name, value);
        }
        map
    }

    /// Replaces all values of a header by one. It keeps the place of the first.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = canonical(name.as_ref());
        match self.fields.iter().position(|(n, _)| *n == name) {
            Some(first) => {
                self.fields[first].1 = value.as_ref().to_vec();
                let mut index = 0;
                self.fields.retain(|(n, _)| {
                    index += 1;
                    index - 1 <= first || *n != name
                });
            }
            None => self.add(name, value),
        }
    }

    /// Removes all values of a header.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = canonical(name.as_ref());
        self.fields.retain(|(n, _)| *n != name);
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.fields.clear();
    }

    /// The first value of a header.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.get_all(name).into_iter().next()
    }

    /// All values of a header, in order.
    pub fn get_all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = canonical(name.as_ref());
        self.fields
            .iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    /// The first value of a header as text, each byte that is not UTF-8 replaced.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Why a codec would refuse to write these headers, if it would.
    pub(crate) fn unwritable(&self) -> Option<String> {
        let is_broken = |value: &[u8]| value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let is_name = |name: &[u8]| {
            let name = name.strip_prefix(b":").unwrap_or(name);
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            !name.is_empty() && name.iter().all(is_token)
        };
        self.iter().find_map(|(name, value)| {
            let shown = String::from_utf8_lossy(name);
            if is_broken(value) {
                Some(format!("invalid header value for: {shown}"))
            } else {
                (!is_name(name)).then(|| format!("invalid header name: {shown}"))
            }
        })
    }

    fn is_inline(&self, name: &[u8]) -> bool {
        let own = if self.is_response {
            INLINE_IN_RESPONSES
        } else {
            INLINE_IN_REQUESTS
        };
        INLINE.iter().chain(own).any(|inline| inline.as_bytes() == name)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (name, value) in pairs {
            map.add(name, value);
        }
        map
    }
}

/// Whether Envoy takes the message for gRPC: the media type alone, or with a `+` suffix. With
/// parameters (`application/grpc;charset=utf-8`) it is none to Envoy.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    headers
        .get("content-type")
        .and_then(|value| value.strip_prefix(GRPC))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

fn canonical(name: &[u8]) -> Vec<u8> {
    let name = name.to_ascii_lowercase();
    if name == b"host" { b":authority".to_vec() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_stay_apart_except_those_of_inline_headers() {
        let map: HeaderMap = [
            ("X-A", b"1".as_slice()),
            ("Authorization", b"Bearer a"),
            ("x-a", b"\xff"),
            ("authorization", b"Bearer b"),
            (":path", b"/"),
        ]
        .into_iter()
        .collect();
        assert_eq!(map.get_all("x-a"), [b"1".as_slice(), b"\xff"]);
        assert_eq!(map.get_all("authorization"), [b"Bearer a,Bearer b"]);
        assert_eq!(map.iter().next(), Some((b":path".as_slice(), b"/".as_slice())));
    }

    #[test]
    fn setting_replaces_every_line_and_keeps_the_place_of_the_first() {
        let mut map: HeaderMap = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5")]
            .into_iter()
            .collect();
        map.set("A", "9");
        let seen: Vec<_> = map.iter().collect();
        assert_eq!(
            seen,
            [
                (b"a".as_slice(), b"9".as_slice()),
                (b"b".as_slice(), b"2".as_slice()),
                (b"c".as_slice(), b"4".as_slice())
            ]
        );
    }

    #[test]
    fn grpc_is_its_media_type_alone_or_with_a_suffix() {
        for (media_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", false),
            ("application/grpc-web", false),
            ("application/grpc ", false),
            ("text/plain", false),
        ] {
            let map: HeaderMap = [("content-type", media_type)].into_iter().collect();
            assert_eq!(is_grpc(&map), expected, "{media_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn host_is_the_authority() {
        let mut map: HeaderMap = [(":authority", "a")].into_iter().collect();
        map.set("Host", "b");
        assert_eq!(map.get(":authority"), Some(b"b".as_slice()));
        assert_eq!(map.len(), 1);
    }
}

//! Envoy's header map: an ordered multimap of bytes.

/// Headers of which Envoy keeps exactly one entry. Further field lines, and further values that a
/// plugin adds, are appended to it with a comma.
///
/// The first block is Envoy's own table, the second one is registered by extensions that every
/// full build contains.
const INLINE: &[&str] = &[
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    ":status",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
    // Registered by extensions.
    "accept",
    "accept-encoding",
    "authorization",
];

/// An ordered multimap from lower-case names to values, both bytes.
///
/// Pseudo headers stand before all others. `host` is another name for `:authority`. Repeated
/// field lines stay separate entries, except those of inline headers, which are joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
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
        if is_inline(&name)
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
        self.iter()
            .find(|(_, value)| value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)))
            .map(|(name, _)| format!("invalid header value for: {}", String::from_utf8_lossy(name)))
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

fn is_inline(name: &[u8]) -> bool {
    INLINE.iter().any(|inline| inline.as_bytes() == name)
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

//! The head of a request: pseudo-headers and field lines, as bytes.

/// A borrowed view of a request's header block: every field line in order, duplicates kept,
/// pseudo-headers (`:path`, `:method`, …) among them. Names and values are bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    fields: &'a [Field<'a>],
}

/// A field line: name and value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

impl<'a> RequestHead<'a> {
    /// A view of `fields`. Names are compared without regard to case (RFC 9110 §5.1).
    pub fn new(fields: &'a [Field<'a>]) -> Self {
        Self { fields }
    }

    /// All field lines in order, pseudo-headers included.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        self.fields.iter().copied()
    }

    /// The values of all field lines called `name`, in order.
    pub fn values<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the only field line called `name`; `None` when there is none or several.
    pub fn only(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// Whether a field line called `name` exists.
    pub fn has(&self, name: &[u8]) -> bool {
        self.values(name).next().is_some()
    }

    /// The raw request target (`:path`), query included. A `CONNECT` request has none.
    pub fn target(&self) -> Option<&'a [u8]> {
        self.only(b":path")
    }

    /// The method, empty when the host gave none.
    pub fn method(&self) -> &'a [u8] {
        self.only(b":method").unwrap_or_default()
    }

    /// Whether the request asks to change protocol: `Upgrade`, or `:protocol` of an extended
    /// `CONNECT` (RFC 8441).
    pub fn is_upgrade(&self) -> bool {
        self.has(b"upgrade") || self.has(b":protocol")
    }

    /// Whether Envoy will treat a local reply to this request as gRPC: content type
    /// `application/grpc`, alone or continued by `+`.
    pub fn is_grpc(&self) -> bool {
        self.values(b"content-type").next().is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
        })
    }

    /// The `traceparent` to pass on to callouts, if the request has one valid by the grammar
    /// of W3C Trace Context §3.2 (version 00).
    pub fn traceparent(&self) -> Option<String> {
        let value = std::str::from_utf8(self.only(b"traceparent")?).ok()?;
        let mut parts = value.split('-');
        let lower_hex = |part: Option<&str>, length: usize| {
            part.is_some_and(|text| {
                text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let not_zero = |part: &str| part.bytes().any(|b| b != b'0');
        let (version, trace, parent, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
        let valid = version == Some("00")
            && lower_hex(trace, 32)
            && trace.is_some_and(not_zero)
            && lower_hex(parent, 16)
            && parent.is_some_and(not_zero)
            && lower_hex(flags, 2)
            && parts.next().is_none();
        valid.then(|| value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_by_the_grammar_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, valid) in [
            (good, true),
            ("", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y", false),
        ] {
            let fields: [Field<'_>; 1] = [(b"traceparent", value.as_bytes())];
            assert_eq!(RequestHead::new(&fields).traceparent().is_some(), valid, "{value:?}");
        }
        let fields: [Field<'_>; 2] = [(b"traceparent", good.as_bytes()), (b"traceparent", good.as_bytes())];
        assert_eq!(RequestHead::new(&fields).traceparent(), None, "two of them are none");
    }

    #[test]
    fn grpc_is_what_envoy_calls_grpc() {
        for (value, grpc) in [
            (&b"application/grpc"[..], true),
            (b"application/grpc+proto", true),
            (b"application/grpc-web", false),
            (b"application/json", false),
        ] {
            let fields: [Field<'_>; 1] = [(b"content-type", value)];
            assert_eq!(RequestHead::new(&fields).is_grpc(), grpc);
        }
    }
}

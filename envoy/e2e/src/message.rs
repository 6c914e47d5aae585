//! A request as bytes, also one that no HTTP library would send.

use corpus::wire::Field;

/// The authority of requests that name none.
const HOST: &[u8] = b"ledger.example.com";

/// How many bytes of a body go into one chunk.
const CHUNK_BYTES: usize = 1024;

/// An HTTP/1.1 request that is written as it is given: nothing is checked, folded or sorted.
#[derive(Debug, Clone, Default)]
pub struct Message {
    method: Vec<u8>,
    target: Vec<u8>,
    lines: Vec<Field>,
    body: Vec<u8>,
    chunked: bool,
    trailers: Vec<Field>,
}

impl Message {
    /// A request without header lines and body.
    pub fn new(method: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            ..Self::default()
        }
    }

    /// A `GET` in the name of a tenant, with a valid token.
    pub fn of_tenant(tenant: &str, target: &str) -> Self {
        let token = corpus::case::Token::Tenant(tenant.to_owned());
        let token = corpus::mint::Keys::shared()
            .token(&token, crate::now())
            .expect("a plain token can be made");
        Self::new("GET", target).line("authorization", [b"Bearer ", &token[..]].concat())
    }

    /// Replaces the method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// Replaces the target.
    pub fn target(mut self, target: &[u8]) -> Self {
        self.target = target.into();
        self
    }

    /// Adds a header line behind those that are there.
    pub fn line(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }

    /// Adds several.
    pub fn lines(mut self, lines: impl IntoIterator<Item = Field>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// Gives it a body with `content-length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body in chunks instead.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Adds trailers, which go behind the last chunk.
    pub fn trailers(mut self, trailers: impl IntoIterator<Item = Field>) -> Self {
        self.trailers.extend(trailers);
        if self.trailers.is_empty() { self } else { self.chunked() }
    }

    /// The method as text.
    pub(crate) fn method_name(&self) -> &[u8] {
        &self.method
    }

    /// The bytes on the wire. `host`, and what says how long the body is, are added where no line
    /// does it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        if !self.has("host") {
            push_line(&mut bytes, b"host", HOST);
        }
        for (name, value) in &self.lines {
            push_line(&mut bytes, name, value);
        }
        let framed = self.has("content-length") || self.has("transfer-encoding");
        if self.chunked && !framed {
            push_line(&mut bytes, b"transfer-encoding", b"chunked");
        } else if !self.body.is_empty() && !framed {
            push_line(&mut bytes, b"content-length", self.body.len().to_string().as_bytes());
        }
        bytes.extend(b"\r\n");
        if self.chunked {
            for chunk in self.body.chunks(CHUNK_BYTES) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n");
            for (name, value) in &self.trailers {
                push_line(&mut bytes, name, value);
            }
            bytes.extend(b"\r\n");
        } else {
            bytes.extend(&self.body);
        }
        bytes
    }

    fn has(&self, name: &str) -> bool {
        self.lines
            .iter()
            .any(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn push_line(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend(name);
    bytes.extend(b": ");
    bytes.extend(value);
    bytes.extend(b"\r\n");
}

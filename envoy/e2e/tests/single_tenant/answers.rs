//! What the upstream answers: the client says which it wants, in a header.

/// The header that names the answer.
pub(crate) const NAME: &str = "x-answer";

/// How much of a body the upstream waits for before it answers [`Answer::Early`].
pub(crate) const EARLY_BYTES: usize = 1_000;

/// How large the body of [`Answer::Large`] is: more than any buffer between the two ends.
pub(crate) const LARGE_BYTES: usize = 300_000;

/// What the upstream says first when it has switched protocols.
pub(crate) const GREETING: &[u8] = b"\x81\x05hello";

/// What an upstream does when a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Writes this when it has the whole request, and keeps the connection.
    Kept(&'static [u8]),
    /// Writes this when it has the whole request, and closes the connection.
    Closed(&'static [u8]),
    /// A body of [`LARGE_BYTES`].
    Large,
    /// Writes this after the first [`EARLY_BYTES`] of the body, and waits for the connection to end.
    Early(&'static [u8]),
    /// Switches protocols, greets, and from then on sends back what it gets.
    Switched,
}

/// The answer of that name; a plain one when nobody has asked for any.
pub(crate) fn named(name: &str) -> Answer {
    let found = ALL.iter().chain(SPECIAL).find(|(known, _)| *known == name);
    found.map_or(Answer::Kept(PLAIN), |(_, answer)| *answer)
}

const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

/// Answers to any request.
pub(crate) const ALL: &[(&str, Answer)] = &[
    ("plain", Answer::Kept(PLAIN)),
    ("empty", Answer::Kept(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
    (
        "chunked",
        Answer::Kept(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n5\r\npedia\r\n0\r\n\r\n"),
    ),
    (
        "trailers",
        Answer::Kept(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
              3\r\nabc\r\n0\r\nx-sum: 1\r\nX-Tenant-ID: acme\r\nx-sum: \xff\r\n\r\n",
        ),
    ),
    (
        "odd",
        Answer::Kept(
            b"HTTP/1.1 200 Fine By Me\r\nX-Tenant-ID: acme\r\nx-tenant-id: globex\r\nX-Storage-Key: acme/a\r\n\
              x_tenant_id: 1\r\nX-ODD-Case: 1\r\nx-bytes: \xc3\xa4 \xff\xfe\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
              x-empty:\r\nx-padded: \t a  b \t\r\nserver: mine\r\ncontent-length: 3\r\n\r\n\x00\xff\n",
        ),
    ),
    (
        "no content",
        Answer::Kept(b"HTTP/1.1 204 No Content\r\nx-note: 1\r\n\r\n"),
    ),
    (
        "not modified",
        Answer::Kept(b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n"),
    ),
    (
        "redirect",
        Answer::Kept(
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example.com/a%00#b\r\ncontent-length: 0\r\n\r\n",
        ),
    ),
    (
        "refusal",
        Answer::Kept(
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\nwww-authenticate: Bearer\r\n\
              content-length: 2\r\n\r\nno",
        ),
    ),
    (
        "failure",
        Answer::Kept(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\ndown"),
    ),
    (
        "unknown status",
        Answer::Kept(b"HTTP/1.1 599 \r\ncontent-length: 1\r\n\r\n?"),
    ),
    (
        "of gRPC",
        Answer::Kept(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
              5\r\n\x00\x00\x00\x00\x00\r\n0\r\ngrpc-status: 0\r\n\r\n",
        ),
    ),
    (
        "continue first",
        Answer::Kept(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ),
    (
        "hints first",
        Answer::Kept(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ),
    ("large", Answer::Large),
    (
        "the last one",
        Answer::Closed(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbye"),
    ),
    ("of no length", Answer::Closed(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")),
    (
        "of HTTP/1.0",
        Answer::Closed(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nold"),
    ),
    ("nothing", Answer::Closed(b"")),
    ("half a head", Answer::Closed(b"HTTP/1.1 200 OK\r\ncontent-")),
    (
        "half a body",
        Answer::Closed(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789"),
    ),
    (
        "half of the chunks",
        Answer::Closed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n5\r\npe"),
    ),
    ("no HTTP", Answer::Closed(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
    (
        "bad header",
        Answer::Closed(b"HTTP/1.1 200 OK\r\nx y: 1\r\n: 2\r\n\r\n"),
    ),
];

/// Answers that a request must be made for.
pub(crate) const SPECIAL: &[(&str, Answer)] = &[
    (
        "early",
        Answer::Early(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 6\r\n\r\nenough"),
    ),
    ("switched", Answer::Switched),
];

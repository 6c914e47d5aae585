//! HTTP/1.1 messages as they came: heads byte for byte, bodies without the borders of their chunks, which
//! are a matter of when which packet arrived.

use std::fmt;
use std::io;

use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest head.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// The largest body.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// How many field lines a head may have.
const MAX_LINES: usize = 512;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Absent,
    /// So many bytes.
    Length(usize),
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    Connection,
}

/// One message, as the side that received it has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// From the first line to the empty one.
    pub(crate) head: Vec<u8>,
    /// How the body was to end.
    pub(crate) framing: Framing,
    /// The body as far as it came.
    pub(crate) body: Vec<u8>,
    /// What stands behind the last chunk.
    pub(crate) trailers: Vec<u8>,
    /// Whether it came to its end.
    pub(crate) complete: bool,
}

impl Heard {
    /// A message without a body.
    pub(crate) fn head_only(head: Vec<u8>) -> Self {
        Self {
            head,
            framing: Framing::Absent,
            body: Vec::new(),
            trailers: Vec::new(),
            complete: true,
        }
    }
}

/// In full, but for long bodies, of which the beginning shows.
impl fmt::Debug for Heard {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.get(..200).unwrap_or(&self.body);
        to.debug_struct("Heard")
            .field("head", &self.head.escape_ascii().to_string())
            .field("framing", &self.framing)
            .field("body", &body.escape_ascii().to_string())
            .field("body_bytes", &self.body.len())
            .field("trailers", &self.trailers.escape_ascii().to_string())
            .field("complete", &self.complete)
            .finish()
    }
}

/// The field lines of a head, names in lower case.
///
/// # Errors
/// When they are none of HTTP.
pub(crate) fn fields(head: &[u8]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let first_line = head.windows(2).position(|end| end == b"\r\n").context("no line")?;
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let parsed = httparse::parse_headers(head.get(first_line + 2..).unwrap_or_default(), &mut lines)?;
    let httparse::Status::Complete((_, lines)) = parsed else {
        anyhow::bail!("a head without an end");
    };
    let lower = |line: &httparse::Header<'_>| (line.name.to_ascii_lowercase(), line.value.to_vec());
    Ok(lines.iter().map(lower).collect())
}

/// The first value of a field, as text.
pub(crate) fn value(fields: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    let line = fields.iter().find(|(found, _)| found == name);
    line.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// What the fields say of the body; `otherwise` when they say nothing.
pub(crate) fn framing(fields: &[(String, Vec<u8>)], otherwise: Framing) -> anyhow::Result<Framing> {
    if value(fields, "transfer-encoding").is_some() {
        return Ok(Framing::Chunked);
    }
    match value(fields, "content-length") {
        Some(length) => Ok(Framing::Length(length.parse()?)),
        None => Ok(otherwise),
    }
}

/// One end of a connection, from which messages are read.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    unread: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            unread: Vec::new(),
        }
    }

    /// The next head; none when the connection ends before its first byte.
    ///
    /// # Errors
    /// When it ends within it.
    pub(crate) async fn head(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") {
                return Ok(Some(self.unread.drain(..end + 4).collect()));
            }
            ensure!(self.unread.len() < MAX_HEAD_BYTES, "a head without end");
            if !self.more().await? {
                let is_between = self.unread.is_empty();
                ensure!(is_between, "half a head: {}", self.unread.escape_ascii());
                return Ok(None);
            }
        }
    }

    /// The body behind a head.
    ///
    /// # Errors
    /// When it is none of HTTP.
    pub(crate) async fn body(&mut self, head: Vec<u8>, framing: Framing) -> anyhow::Result<Heard> {
        let mut heard = Heard {
            framing,
            ..Heard::head_only(head)
        };
        match framing {
            Framing::Absent => {}
            Framing::Length(length) => {
                heard.body = self.bytes(length).await?;
                heard.complete = heard.body.len() == length;
            }
            Framing::Chunked => heard.complete = self.chunks(&mut heard).await?,
            Framing::Connection => heard.body = self.rest().await?,
        }
        Ok(heard)
    }

    /// So many bytes, or as many as come.
    ///
    /// # Errors
    /// When it is more than any test sends.
    pub(crate) async fn bytes(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        ensure!(count <= MAX_BODY_BYTES, "{count} bytes");
        while self.unread.len() < count && self.more().await? {}
        let count = count.min(self.unread.len());
        Ok(self.unread.drain(..count).collect())
    }

    /// Everything until the connection ends.
    ///
    /// # Errors
    /// When it is more than any test sends.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        while self.more().await? {
            ensure!(self.unread.len() <= MAX_BODY_BYTES, "a body without end");
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// What there is now, at least a byte unless the connection ends.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whether the last chunk came.
    async fn chunks(&mut self, heard: &mut Heard) -> anyhow::Result<bool> {
        loop {
            let size = httparse::parse_chunk_size(&self.unread);
            match size.map_err(|error| anyhow::anyhow!("not the size of a chunk: {error}"))? {
                httparse::Status::Partial if self.more().await? => {}
                httparse::Status::Partial => return Ok(false),
                httparse::Status::Complete((line, 0)) => {
                    self.unread.drain(..line);
                    return self.trailers(heard).await;
                }
                httparse::Status::Complete((line, size)) => {
                    self.unread.drain(..line);
                    let size = usize::try_from(size)?;
                    heard.body.extend(self.bytes(size).await?);
                    ensure!(heard.body.len() <= MAX_BODY_BYTES, "a body without end");
                    if self.bytes(2).await? != b"\r\n" {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn trailers(&mut self, heard: &mut Heard) -> anyhow::Result<bool> {
        loop {
            let length = if self.unread.starts_with(b"\r\n") {
                Some(2)
            } else {
                let end = self.unread.windows(4).position(|end| end == b"\r\n\r\n");
                end.map(|end| end + 4)
            };
            if let Some(length) = length {
                heard.trailers = self.unread.drain(..length).collect();
                return Ok(true);
            }
            if !self.more().await? {
                return Ok(false);
            }
        }
    }

    /// Whether there was more. A connection that is reset has ended.
    async fn more(&mut self) -> io::Result<bool> {
        match self.from.read_buf(&mut self.unread).await {
            Ok(count) => Ok(count > 0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

//! An upstream that writes down every byte of what it gets, and answers as the request asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::answers::{self, Answer, EARLY_BYTES, GREETING, LARGE_BYTES};
use crate::wire::{Framing, Heard, Reader, fields, framing, value};

/// What came on one connection, in order. Bytes behind a switch of protocols are the body of a last
/// message without a head.
pub(crate) type Conversation = Vec<Heard>;

/// The upstream. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Conversation>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free port of loopback.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let heard = Arc::<Mutex<Vec<Conversation>>>::default();
        let list = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = lock(&list).len();
                lock(&list).push(Vec::new());
                let list = Arc::clone(&list);
                connections.spawn(async move {
                    let note = |message| lock(&list)[number].push(message);
                    if let Err(error) = serve(stream, &note).await {
                        note(Heard::head_only(format!("broken: {error:#}").into()));
                    }
                });
            }
        });
        Ok(Self { address, heard, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far, by connection.
    pub(crate) fn heard(&self) -> Vec<Conversation> {
        lock(&self.heard).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(list: &Mutex<Vec<Conversation>>) -> std::sync::MutexGuard<'_, Vec<Conversation>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, note: &impl Fn(Heard)) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    while let Some(head) = reader.head().await? {
        let fields = fields(&head).with_context(|| head.escape_ascii().to_string())?;
        let answer = answers::named(&value(&fields, answers::NAME).unwrap_or_default());
        let framing = framing(&fields, Framing::Absent)?;
        match answer {
            Answer::Early(answer) => {
                let begun = reader.bytes(EARLY_BYTES).await?;
                writer.write_all(answer).await?;
                let rest = reader.rest().await?;
                note(Heard {
                    framing,
                    body: [begun, rest].concat(),
                    complete: false,
                    ..Heard::head_only(head)
                });
                return Ok(());
            }
            Answer::Switched => {
                note(reader.body(head, framing).await?);
                return switched(reader, writer, note).await;
            }
            Answer::Kept(answer) => {
                let has_body = !head.starts_with(b"HEAD ");
                note(reader.body(head, framing).await?);
                writer
                    .write_all(if has_body { answer } else { head_of(answer) })
                    .await?;
            }
            Answer::Closed(answer) => {
                note(reader.body(head, framing).await?);
                writer.write_all(answer).await?;
                return Ok(());
            }
            Answer::Large => {
                note(reader.body(head, framing).await?);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
                writer.write_all(head.as_bytes()).await?;
                writer.write_all(&vec![b'l'; LARGE_BYTES]).await?;
            }
        }
    }
    Ok(())
}

/// Up to the first empty line.
fn head_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    end.and_then(|end| answer.get(..end + 4)).unwrap_or(answer)
}

async fn switched(
    mut reader: Reader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    note: &impl Fn(Heard),
) -> anyhow::Result<()> {
    let head =
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: Upgrade\r\nX-Tenant-ID: a\r\n\r\n";
    writer.write_all(&[&head[..], GREETING].concat()).await?;
    let mut all = Vec::new();
    loop {
        let some = reader.some().await?;
        if some.is_empty() {
            break;
        }
        writer.write_all(&some).await?;
        all.extend(some);
    }
    note(Heard {
        framing: Framing::Connection,
        body: all,
        ..Heard::head_only(Vec::new())
    });
    Ok(())
}

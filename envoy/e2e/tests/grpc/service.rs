//! A gRPC service with one method of each kind, and its client.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The one message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    /// Whatever is said.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// In replies: every `x-tenant-id` that the server saw.
    #[prost(string, repeated, tag = "2")]
    pub(crate) tenants: Vec<String>,
    /// Whatever is sent.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) bytes: Vec<u8>,
}

impl Note {
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// One note, the same note back. A note that says [`LOST`] fails.
    Say,
    /// Many notes, one back with all texts.
    Collect,
    /// One note back for each word of the one that comes.
    Tell,
    /// Each note back when it comes.
    Talk,
}

/// All of them.
pub(crate) const METHODS: [Method; 4] = [Method::Say, Method::Collect, Method::Tell, Method::Talk];

impl Method {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Say => "/tenantgate.test.Chat/Say",
            Self::Collect => "/tenantgate.test.Chat/Collect",
            Self::Tell => "/tenantgate.test.Chat/Tell",
            Self::Talk => "/tenantgate.test.Chat/Talk",
        }
    }
}

/// What makes [`Method::Say`] fail, with `DATA_LOSS`.
pub(crate) const LOST: &str = "lost";

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts on a free port of loopback.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = http2::Builder::new(TokioExecutor::new());
                connections.spawn(serving.serve_connection(TokioIo::new(stream), hyper::service::service_fn(serve)));
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(request: hyper::Request<Incoming>) -> Result<hyper::Response<Body>, Infallible> {
    let path = request.uri().path();
    let Some(method) = METHODS.into_iter().find(|method| method.path() == path) else {
        return Ok(Status::unimplemented("no such method").into_http());
    };
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<Note, Note>::default());
    Ok(match method {
        Method::Say => grpc.unary(service_fn(say), request).await,
        Method::Collect => grpc.client_streaming(service_fn(collect), request).await,
        Method::Tell => grpc.server_streaming(service_fn(tell), request).await,
        Method::Talk => grpc.streaming(service_fn(talk), request).await,
    })
}

async fn say(request: Request<Note>) -> Result<Response<Note>, Status> {
    let tenants = tenants(request.metadata());
    let note = request.into_inner();
    if note.text == LOST {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-tenant-id", "of-the-server".parse().expect("an ASCII value"));
        return Err(Status::with_details_and_metadata(
            tonic::Code::DataLoss,
            "lost: 100 % \u{e4}",
            vec![0, 1, 255].into(),
            metadata,
        ));
    }
    Ok(Response::new(Note { tenants, ..note }))
}

async fn collect(request: Request<tonic::Streaming<Note>>) -> Result<Response<Note>, Status> {
    let tenants = tenants(request.metadata());
    let mut notes = request.into_inner();
    let mut all = Note {
        tenants,
        ..Note::default()
    };
    while let Some(note) = notes.message().await? {
        all.text += &note.text;
        all.bytes.extend(note.bytes);
    }
    Ok(Response::new(all))
}

async fn tell(request: Request<Note>) -> Result<Response<Notes>, Status> {
    let tenants = tenants(request.metadata());
    let words: Vec<_> = request.into_inner().text.split(' ').map(Note::of).collect();
    let notes = words.into_iter().map(move |note| {
        Ok(Note {
            tenants: tenants.clone(),
            ..note
        })
    });
    Ok(Response::new(stream::iter(notes).boxed()))
}

async fn talk(request: Request<tonic::Streaming<Note>>) -> Result<Response<Notes>, Status> {
    let tenants = tenants(request.metadata());
    let notes = request.into_inner().map(move |note| {
        Ok(Note {
            tenants: tenants.clone(),
            ..note?
        })
    });
    Ok(Response::new(notes.boxed()))
}

fn tenants(metadata: &MetadataMap) -> Vec<String> {
    let lines = metadata.get_all("x-tenant-id").iter();
    lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .collect()
}

/// A client with one connection.
#[derive(Debug, Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(crate) async fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(format!("http://{to}"))?.connect().await?;
        Ok(Self(
            tonic::client::Grpc::new(channel).max_decoding_message_size(16 << 20),
        ))
    }

    /// Calls a method, whichever kind it is, with what that is to get, and gives the replies as they
    /// come. What a method of one note gets is the first one.
    ///
    /// # Errors
    /// The status that it was refused with at once.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        metadata: &MetadataMap,
        notes: impl Stream<Item = Note> + Send + 'static,
    ) -> Result<Notes, Status> {
        self.0
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        let codec = ProstCodec::<Note, Note>::default();
        let path = PathAndQuery::from_static(method.path());
        let mut notes = Box::pin(notes);
        let with = |mut request: Request<()>| {
            *request.metadata_mut() = metadata.clone();
            request
        };
        let head = with(Request::new(()));
        match method {
            Method::Say | Method::Tell => {
                let note = notes.next().await.unwrap_or_default();
                let request = head.map(|()| note);
                if method == Method::Say {
                    let reply = self.0.unary(request, path, codec).await?;
                    return Ok(one(reply));
                }
                Ok(self
                    .0
                    .server_streaming(request, path, codec)
                    .await?
                    .into_inner()
                    .boxed())
            }
            Method::Collect => {
                let request = head.map(|()| notes);
                Ok(one(self.0.client_streaming(request, path, codec).await?))
            }
            Method::Talk => {
                let request = head.map(|()| notes);
                Ok(self.0.streaming(request, path, codec).await?.into_inner().boxed())
            }
        }
    }
}

fn one(reply: Response<Note>) -> Notes {
    stream::iter([Ok(reply.into_inner())]).boxed()
}

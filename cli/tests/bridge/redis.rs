//! A real Redis server, and a wire to it that can be cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::until;

/// Where the server program is: what REDIS_SERVER says, else in PATH, else where cli/fetch-redis.sh unpacks it.
fn program() -> PathBuf {
    if let Some(own) = std::env::var_os("REDIS_SERVER") {
        return own.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/redis");
    let found = std::env::split_paths(&path)
        .chain([unpacked])
        .map(|folder| folder.join("redis-server"))
        .find(|program| program.is_file());
    found.expect("there is no redis-server: run cli/fetch-redis.sh (`make redis`), or set REDIS_SERVER")
}

/// A server of its own, which ends with the test.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Option<Child>,
    password: Option<String>,
    tls: Option<(u16, PathBuf, PathBuf)>,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Without password and TLS.
    pub(crate) async fn start() -> Self {
        Self::with(None, None).await
    }

    /// With a password.
    pub(crate) async fn with_password(password: &str) -> Self {
        Self::with(Some(password), None).await
    }

    /// With TLS on a second port: certificate and key in PEM.
    pub(crate) async fn with_tls(certificate: &str, key: &str) -> Self {
        Self::with(None, Some((certificate, key))).await
    }

    async fn with(password: Option<&str>, tls: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keep = |name: &str, pem: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).expect("written");
            path
        };
        let tls = tls.map(|(certificate, key)| (0, keep("server.crt", certificate), keep("server.key", key)));
        let mut redis = Self {
            child: None,
            password: password.map(str::to_owned),
            tls,
            port: 0,
            folder,
        };
        // Redis takes no port 0, and a port that was free may not be any more.
        for _ in 0..10 {
            redis.port = free_port().await;
            if let Some((port, ..)) = &mut redis.tls {
                *port = free_port().await;
            }
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("redis-server does not start on a free port");
    }

    /// Starts the server, and whether it serves. It does not when somebody else has the port.
    async fn try_start(&mut self) -> bool {
        let mut command = Command::new(program());
        let port = self.port.to_string();
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(self.folder.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        if let Some((port, certificate, key)) = &self.tls {
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(certificate);
            command.arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(certificate);
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.kill_on_drop(true).spawn().expect("redis-server runs");
        let child_id = child.id();
        self.child = Some(child);
        loop {
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("its status").is_some() {
                return false;
            }
            if self.serves(child_id).await {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Whether it is this very process that answers on the port.
    async fn serves(&self, process: Option<u32>) -> bool {
        let Some(mut connection) = self.connect().await else {
            return false;
        };
        let mut info = redis::cmd("INFO");
        let info: Option<String> = info.arg("server").query_async(&mut connection).await.ok();
        let said = info.and_then(|info| {
            info.lines()
                .find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
        });
        said.is_some() && said == process
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let password = self.password.as_ref().map(|password| format!(":{password}@"));
        let url = format!("redis://{}127.0.0.1:{}/", password.unwrap_or_default(), self.port);
        let client = redis::Client::open(url).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        connection.ping::<String>().await.ok().map(|_| connection)
    }

    /// Kills the server as a crash would.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it ends");
    }

    /// Starts the server again on its port.
    pub(crate) async fn restart(&mut self) {
        let began = std::time::Instant::now();
        while !self.try_start().await {
            assert!(
                began.elapsed().as_secs() < 30,
                "redis-server does not get its port back"
            );
        }
    }

    /// Where it listens without TLS.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port with TLS.
    pub(crate) fn tls_port(&self) -> u16 {
        self.tls.as_ref().map(|(port, ..)| *port).expect("TLS")
    }

    /// Publishes on a channel. Returns how many received it.
    pub(crate) async fn publish_on(&self, channel: &str, messages: &[impl AsRef<[u8]>]) -> usize {
        let mut connection = self.connect().await.expect("a connection");
        let mut received = 0;
        for message in messages {
            received += connection
                .publish::<_, _, usize>(channel, message.as_ref())
                .await
                .expect("published");
        }
        received
    }

    /// Publishes events with these types on the channel of `staging`, to the one bridge that must be there.
    pub(crate) async fn publish(&self, kinds: &[&str]) {
        let messages: Vec<String> = kinds.iter().map(|kind| event(kind)).collect();
        let received = self.publish_on("tenant-events:staging:", &messages).await;
        assert_eq!(received, kinds.len(), "the bridge is subscribed");
    }
}

/// A small event.
pub(crate) fn event(kind: &str) -> String {
    format!(r#"{{"event_type":"{kind}","tenant_id":"acme","environment":"staging"}}"#)
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A TCP proxy that can stop passing anything on, without closing anything: what a cut in the network looks like.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    cut: Arc<watch::Sender<bool>>,
    /// Ends with the wire.
    _connections: JoinSet<()>,
}

impl Wire {
    /// A wire to that address.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cut = Arc::new(watch::Sender::new(false));
        let mut connections = JoinSet::new();
        let wire = cut.clone();
        connections.spawn(async move {
            let mut pipes = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                let Ok(far) = TcpStream::connect(server).await else {
                    continue;
                };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                pipes.spawn(pass(near_in, far_out, wire.clone()));
                pipes.spawn(pass(far_in, near_out, wire.clone()));
            }
        });
        Self {
            address,
            cut,
            _connections: connections,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that is sent from now on vanishes, and so do the ends of connections.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Passes on again, on new connections only: what has vanished on the others cannot come back.
    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Arc<watch::Sender<bool>>) {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).await;
        if *cut.borrow() {
            // For as long as the test lasts.
            std::future::pending::<()>().await;
        }
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) if to.write_all(&buffer[..length]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Waits until so many are subscribed to the channel of `staging`.
pub(crate) async fn until_subscribed(redis: &Redis, subscribers: usize) {
    until("the bridge is subscribed", async || {
        let mut connection = redis.connect().await?;
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg("tenant-events:staging:");
        let (_, count): (String, usize) = command.query_async(&mut connection).await.ok()?;
        (count == subscribers).then_some(())
    })
    .await;
}

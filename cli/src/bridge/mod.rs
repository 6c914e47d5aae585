//! `tenantgate bridge`: tenant events from Redis Pub/Sub to the filters of any number of Envoys.
//!
//! One connection to Redis, one queue and one task per Envoy, so that a slow Envoy delays no other. What an Envoy
//! may have missed, whatever the reason, is replaced by `cache.invalidate_all` ([`queue`]).

mod backoff;
mod delivery;
mod health;
mod message;
mod metrics;
mod notices;
mod options;
mod post;
mod queue;
mod secret;
mod server;
mod settings;
mod subscription;
mod tls;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::delivery::{Envoy, deliver};
use self::health::Health;
use self::metrics::Metrics;
use self::post::HttpPost;
use self::queue::Queue;
use self::server::{Pages, serve};
use self::settings::{Settings, Variables};
use self::subscription::{Ended, Standing, Subscriber};

pub(crate) use self::options::Options;

/// What a wrong configuration ends with, as wrong arguments do.
const BAD_CONFIGURATION: u8 = 2;

/// Runs the bridge until SIGTERM or SIGINT.
///
/// # Errors
/// When the address for `/healthz` and `/metrics` cannot be had. Redis and Envoys may be there later.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let settings = match Settings::compile(options, &Variables::of(std::env::vars_os())) {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in faults {
                anstream::eprintln!("tenantgate bridge: {fault}");
            }
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
    };
    log_to_stderr(settings.log_level);
    let runtime = tokio::runtime::Runtime::new().context("no threads to run on")?;
    let ended = runtime.block_on(bridge(settings));
    // A name that is being looked up on a thread of its own must not hold up the end.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// One JSON object per line.
fn log_to_stderr(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(level).with(lines).init();
}

async fn bridge(settings: Settings) -> Result<()> {
    let stopped = stop_signal()?;
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", settings.listen))?;
    let metrics = Arc::new(Metrics::new());
    let standing = Arc::new(Standing::default());
    let mut envoys = Vec::new();
    let (hurry, hurried) = watch::channel(false);
    let mut deliveries = JoinSet::new();
    for url in &settings.envoys {
        let name = url.to_string();
        let queue = Queue::new(&settings.environment, settings.delivery.queue_messages);
        let envoy = Arc::new(Envoy::new(name.clone(), queue, metrics.envoy(&name)));
        envoys.push(envoy.clone());
        let post = HttpPost::new(url.clone(), &settings.delivery)?;
        deliveries.spawn(deliver(envoy, post, settings.delivery.attempts, hurried.clone()));
    }
    let pages = Arc::new(Pages {
        health: Health {
            standing: standing.clone(),
            envoys: envoys.clone(),
            pending: settings.pending,
        },
        metrics: metrics.clone(),
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %listener.local_addr()?,
        environment = settings.environment,
        redis = settings.redis.host,
        tls = settings.redis.tls.is_some(),
        envoys = envoys.len(),
        "started"
    );
    let subscriber = Subscriber {
        redis: settings.redis,
        environment: settings.environment,
        envoys: envoys.clone(),
        metrics,
        standing,
    };
    let serving = serve(listener, pages);
    tokio::pin!(serving);
    tokio::select! {
        never = subscriber.run() => match never {},
        never = &mut serving => match never {},
        // A queue that nobody empties any more would only look like an Envoy that is down.
        Some(ended) = deliveries.join_next() => bail!("a delivery ended by itself: {ended:?}"),
        () = stopped => subscriber.ended(Ended::Stopped),
    }
    tokio::select! {
        never = &mut serving => match never {},
        () = drain(&envoys, deliveries, &hurry, settings.drain) => {}
    }
    Ok(())
}

/// Delivers what is queued, as far as that is possible `within` that time.
async fn drain(envoys: &[Arc<Envoy>], mut deliveries: JoinSet<()>, hurry: &watch::Sender<bool>, within: Duration) {
    let queued = || envoys.iter().map(|envoy| envoy.queue.length().events).sum::<usize>();
    tracing::info!(queued = queued(), "stopping");
    for envoy in envoys {
        envoy.queue.close();
    }
    hurry.send_replace(true);
    let ended = async { while deliveries.join_next().await.is_some() {} };
    // What is left is no loss: the next start has every Envoy forget everything.
    let _ = timeout(within, ended).await;
    tracing::info!(undelivered = queued(), "stopped");
}

/// Completes when somebody wants the bridge to end.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("signals cannot be received");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

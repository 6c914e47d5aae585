//! `tenantgate demo` as somebody at a terminal meets it. Needs the filter and Envoy: `make wasm envoy`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A demo whose logs go where no other demo's do.
fn demo(arguments: &[&str], logs: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    command.arg("demo").args(arguments).arg("--logs").arg(logs);
    command.stdin(Stdio::null());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn once_shows_that_every_row_is_as_expected() {
    let logs = folder();
    let Output { status, stdout, stderr } = demo(&["--once"], logs.path()).output().expect("the demo runs");
    let (table, errors) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{table}\n{errors}");
    assert!(table.contains(" rows are as expected."), "{table}");
    assert!(!table.contains('\u{1b}'), "colours are for terminals: {table}");
    assert!(table.lines().all(|line| line.chars().count() <= 118), "{table}");
    let written = |name: &str| std::fs::read_to_string(logs.path().join(name)).expect("a log");
    assert!(written("envoy.log").contains("denied 403 TENANT_SUSPENDED"));
    assert!(written("access.log").contains("tenantgate_TENANT_SUSPENDED"));
    for code in ["TENANT_MANAGER_UNAVAILABLE", "CIRCUIT_OPEN"] {
        assert!(written("access.log").contains(&format!("tenantgate_{code}")), "{code}");
    }
    for what in [
        "event tenant.suspended globex",
        "event tenant.activated globex",
        "(stale_if_error)",
    ] {
        assert!(table.contains(what), "{table}");
    }
}

#[test]
fn a_missing_filter_is_one_line_that_says_how_to_get_it() {
    let missing = demo(&["--once", "--wasm", "no/such.wasm"], folder().path())
        .output()
        .expect("the demo runs");
    let errors = text(&missing.stderr);
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.contains("no/such.wasm") && errors.contains("`make wasm`"),
        "{errors}"
    );
}

/// A demo that is ended with the test that started it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Carries out what the demo invites to, as a shell would.
fn pasted_events_are_taken(told: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for kind in ["tenant.suspended", "tenant.activated"] {
        let is_it = |line: &&str| line.starts_with("curl") && line.contains(kind);
        let command = told.lines().find(is_it).expect("a command").trim_end_matches("; \\");
        let words: Vec<&str> = command.split('\'').collect();
        let [curl, key, " -d ", event, ""] = words[..] else {
            panic!("{command}");
        };
        let url = curl.trim_start_matches("curl -i ").trim_end_matches(" -H ");
        let (name, key) = key.split_once(": ").expect("a header");
        let reply = runtime.block_on(async {
            let sent = client.post(url).header(name, key).body(event.to_owned()).send().await?;
            let status = sent.status();
            sent.text().await.map(|text| (status.as_u16(), text))
        });
        let (status, text) = reply.expect("a reply");
        assert!(status == 200 && text.contains("\"applied\":1"), "{status} {text}");
    }
}

#[test]
fn it_stays_until_it_is_asked_to_end_and_takes_envoy_with_it() {
    let logs = folder();
    let mut running = Running(
        demo(&[], logs.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo runs"),
    );
    let out = BufReader::new(running.0.stdout.take().expect("its output"));
    let (mut admin, mut told) = (None, String::new());
    for line in out.lines() {
        let line = line.expect("text");
        if let Some((_, address)) = line.split_once("admin on http://") {
            let address = address
                .split(')')
                .next()
                .and_then(|address| address.parse::<SocketAddr>().ok());
            admin = Some(address.expect("an address"));
        }
        if line.starts_with("Ctrl-C") {
            break;
        }
        told += &line;
        told.push('\n');
    }
    let admin = admin.expect("the demo says where Envoy is");
    assert!(
        told.contains(&format!("curl -X POST 'http://{admin}/logging?wasm=debug'")),
        "{told}"
    );
    pasted_events_are_taken(&told);
    for name in ["envoy.log", "access.log"] {
        let file = logs.path().join(name);
        assert!(file.is_file() && told.contains(&file.display().to_string()), "{told}");
    }
    TcpStream::connect(admin).expect("Envoy is still there");

    let demo = Pid::from_child(&running.0);
    kill_process(demo, Signal::TERM).expect("a signal");
    let status = running.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    TcpStream::connect(admin).expect_err("Envoy has gone");
}

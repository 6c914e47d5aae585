//! What is wrong is told before anything is begun.

use std::process::Stdio;

use tokio::process::Command;

use crate::world::{KEY, Receiver, command};

async fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdout(Stdio::piped()).output().await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_fault_is_one_line_without_any_value_and_the_exit_code_is_2() {
    let mut command = command(6379, &[]);
    command.args(["--envoy", "http://user:hunter2@envoy/e", "--attempts", "many"]);
    command
        .env("MULTI_TENANT_REDIS_PASWORD", "hunter2")
        .env("MULTI_TENANT_REDIS_TLS", "hunter2")
        .env("ENVIRONMENT_NAME", "a:b");
    let (code, out, errors) = run(&mut command).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(!errors.contains("hunter2") && !errors.contains(KEY), "{errors}");
    let places = [
        "MULTI_TENANT_REDIS_PASWORD",
        "ENVIRONMENT_NAME",
        "MULTI_TENANT_REDIS_TLS",
        "--envoy, number 1",
        "--attempts",
    ];
    assert_eq!(errors.lines().count(), places.len(), "{errors}");
    for (line, place) in errors.lines().zip(places) {
        assert!(line.starts_with(&format!("tenantgate bridge: {place}: ")), "{line}");
    }
    assert!(errors.contains("MULTI_TENANT_REDIS_PASSWORD"), "{errors}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_one_line_and_the_exit_code_is_1() {
    let envoy = Receiver::start().await;
    let taken = envoy.server.address().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    command.env_clear().arg("bridge").args([
        "--envoy",
        &envoy.url(),
        "--listen",
        &taken,
        "--environment",
        "staging",
        "--redis-host",
        "127.0.0.1",
    ]);
    let (code, _, errors) = run(command.env("TENANTGATE_EVENTS_KEY", KEY)).await;
    assert_eq!((code, errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains(&format!("cannot listen on {taken}")), "{errors}");
}

#[tokio::test]
async fn the_help_names_every_variable() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    let (code, out, _) = run(command.args(["bridge", "--help"])).await;
    assert_eq!(code, Some(0));
    for variable in [
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_PASSWORD",
        "REDIS_TLS",
        "REDIS_CA_CERT",
    ]
    .map(|name| format!("MULTI_TENANT_{name}"))
    {
        assert!(out.contains(&variable), "{variable}: {out}");
    }
    assert!(
        out.contains("ENVIRONMENT_NAME") && out.contains("TENANTGATE_EVENTS_KEY"),
        "{out}"
    );
}

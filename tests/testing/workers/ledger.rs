//! The correct ledger, for Rust.
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};

async fn state(iii: &IIIClient, name: &str, payload: Value) -> Result<Value, Error> {
    iii.trigger(TriggerRequest::new(format!("state::{name}"), payload)).await
}

fn count(value: &Value) -> usize {
    value["requests"].as_object().map_or(0, |requests| requests.len())
}

async fn add(iii: &IIIClient, body: &Value) -> Result<usize, Error> {
    let request = body["request"].as_str().unwrap_or_default();
    let ops = json!([{ "type": "merge", "path": "requests", "value": { request: true } }]);
    let update = json!({ "scope": "accounts", "key": body["key"], "ops": ops });
    let answer = state(iii, "update", update).await?;
    match answer["errors"].as_array() {
        Some(errors) if !errors.is_empty() => Err(Error::Handler(answer["errors"].to_string())),
        _ => Ok(count(&answer["new_value"])),
    }
}

#[allow(deprecated)]
fn trigger(iii: &IIIClient, kind: &str, function_id: &str, config: Value) {
    iii.register_trigger(RegisterTriggerInput::new(kind, function_id, config)).expect("trigger");
}

#[tokio::main]
async fn main() {
    let url = std::env::var("III_URL").expect("III_URL");
    let iii = register_worker(&url, InitOptions::default());
    let client = iii.clone();
    iii.register_function(
        "ledger::add",
        RegisterFunction::new_async(move |request: Value| {
            let iii = client.clone();
            async move {
                Ok::<_, Error>(match add(&iii, &request["body"]).await {
                    Ok(n) => json!({ "status_code": 200, "body": { "n": n } }),
                    Err(error) => json!({ "status_code": 503, "body": { "error": error.to_string() } }),
                })
            }
        }),
    );
    let client = iii.clone();
    iii.register_function(
        "ledger::read",
        RegisterFunction::new_async(move |request: Value| {
            let iii = client.clone();
            async move {
                let get = json!({ "scope": "accounts", "key": request["body"]["key"] });
                let value = state(&iii, "get", get).await?;
                Ok::<_, Error>(if value.is_null() {
                    json!({ "status_code": 404, "body": { "error": "unknown" } })
                } else {
                    json!({ "status_code": 200, "body": { "n": count(&value) } })
                })
            }
        }),
    );
    let client = iii.clone();
    iii.register_function(
        "ledger::mirror",
        RegisterFunction::new_async(move |event: Value| {
            let iii = client.clone();
            async move {
                let (key, value) = (&event["key"], &event["new_value"]);
                if value.is_null() {
                    state(&iii, "delete", json!({ "scope": "mirror", "key": key })).await?;
                } else {
                    let set = json!({ "scope": "mirror", "key": key, "value": { "n": count(value) } });
                    state(&iii, "set", set).await?;
                }
                Ok::<_, Error>(json!({}))
            }
        }),
    );
    trigger(&iii, "http", "ledger::add", json!({ "api_path": "/add", "http_method": "POST" }));
    trigger(&iii, "http", "ledger::read", json!({ "api_path": "/read", "http_method": "POST" }));
    trigger(&iii, "state", "ledger::mirror", json!({ "scope": "accounts" }));
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signal");
    term.recv().await;
    iii.shutdown();
}
